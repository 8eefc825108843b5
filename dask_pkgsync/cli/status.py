"""``dask pkgsync status``: how every node stands to the target."""

from __future__ import annotations

from typing import Any

import click

from dask_pkgsync.cli.arguments import address_argument
from dask_pkgsync.cli.connection import connected


@click.command()
@address_argument
def status(address: str, **given: Any) -> None:
    """Show how every node of the cluster at ADDRESS stands to the environment it is to have."""
    from dask_pkgsync import status as cluster_status

    with connected(address, given, presents=False) as client:
        click.echo(str(cluster_status(client)))
