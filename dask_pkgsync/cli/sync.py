"""``dask pkgsync sync``: makes a cluster run this environment."""

from __future__ import annotations

import sys
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
@click.option(
    "--dry-run",
    is_flag=True,
    help="Change nothing, and show what the sync would do. The exit status is 1 if it would fail.",
)
def sync(address: str, *, progress: bool, dry_run: bool, environment: str | None, **given: Any) -> None:
    """Make the cluster at ADDRESS run this environment, or that of a lock file."""
    from dask_pkgsync import sync as sync_cluster
    from dask_pkgsync.client.clusters import place_of
    from dask_pkgsync.client.connection import security

    modules = take_modules(given)
    place = place_of(address, security(**take_tls_files(given)))
    if dry_run:
        planned = sync_cluster(place, environment, dry_run=True, **keywords({**given, "modules": modules}))
        click.echo(str(planned))
        if not planned.ok:
            sys.exit(1)
        return
    options = keywords({**given, "modules": modules, "keep": True})
    click.echo(str(sync_cluster(place, environment, progress=None if progress else False, **options)))
