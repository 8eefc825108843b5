"""``dask pkgsync release``: gives a cluster back the environment that it had before any sync."""

from __future__ import annotations

from typing import Any

import click

from dask_pkgsync.cli.arguments import address_argument
from dask_pkgsync.cli.connection import connected


@click.command()
@address_argument
def release(address: str, **given: Any) -> None:
    """Give the cluster at ADDRESS back the environment that it had before any sync."""
    from dask_pkgsync import release as release_cluster

    with connected(address, given, presents=False) as client:
        click.echo(str(release_cluster(client)))
