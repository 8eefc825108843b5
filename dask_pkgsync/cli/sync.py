"""``dask pkgsync sync``: makes a cluster run this environment."""

from __future__ import annotations

from typing import Any

import click

from dask_pkgsync.cli.arguments import address_argument, flags, keywords, take_modules
from dask_pkgsync.cli.connection import connected


@click.command()
@address_argument
@flags("sync")
@click.option("--progress/--no-progress", default=True, help="Show the steps of each node while the sync runs.")
def sync(address: str, *, progress: bool, **given: Any) -> None:
    """Make the cluster at ADDRESS run this environment."""
    from dask_pkgsync import sync as sync_cluster

    modules = take_modules(given)
    with connected(address, given, modules=modules, only_looks=False) as client:
        options = keywords({**given, "modules": modules, "keep": True})
        click.echo(str(sync_cluster(client, progress=None if progress else False, **options)))
