"""``dask pkgsync sync``: makes a cluster run this environment."""

from __future__ import annotations

from typing import Any

import click

from dask_pkgsync.cli.arguments import address_argument, flags, keywords, take_modules, take_tls_files


@click.command()
@address_argument
@click.option(
    "--environment",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Sync what this lock file pins, and not this environment: requirements.txt, pylock.toml, uv.lock, "
    "poetry.lock, Pipfile.lock, or what `scan --json` writes.",
)
@flags("sync")
@click.option("--progress/--no-progress", default=True, help="Show the steps of each node while the sync runs.")
def sync(address: str, *, progress: bool, environment: str | None, **given: Any) -> None:
    """Make the cluster at ADDRESS run this environment, or that of a lock file."""
    from dask_pkgsync.client.api import sync_address
    from dask_pkgsync.client.connection import security

    modules = take_modules(given)
    tls = security(**take_tls_files(given))
    options = keywords({**given, "modules": modules, "keep": True})
    click.echo(str(sync_address(address, tls, environment, options, progress=None if progress else False)))
