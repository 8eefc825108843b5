"""``dask pkgsync status``: shows whether every node of a cluster matches the target."""

from __future__ import annotations

from typing import Any

import click

from dask_pkgsync.cli.arguments import address_argument
from dask_pkgsync.cli.connection import connected


@click.command()
@address_argument
def status(address: str, **given: Any) -> None:
    """Show whether every node of the cluster at ADDRESS matches the synced environment, and who is connected."""
    from dask_pkgsync import status as cluster_status

    with connected(address, given, presents=False) as client:
        click.echo(str(cluster_status(client)))
