"""``dask pkgsync sync``: the cluster gets this environment."""

from __future__ import annotations

from typing import Any

import click

from dask_pkgsync.cli.arguments import address_argument, flags, keywords, take_modules
from dask_pkgsync.cli.connection import connected


@click.command()
@address_argument
@flags("sync")
@click.option("--progress/--no-progress", default=True, help="Show each node's steps while they happen.")
def sync(address: str, *, progress: bool, **given: Any) -> None:
    """Make the cluster at ADDRESS run this environment."""
    from dask_pkgsync import sync as sync_cluster

    modules = take_modules(given)
    with connected(address, given, modules=modules, only_looks=False) as client:
        options = keywords({**given, "modules": modules, "keep": True})
        click.echo(str(sync_cluster(client, progress=None if progress else False, **options)))
