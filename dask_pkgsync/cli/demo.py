"""``dask pkgsync demo``: all of it on this machine."""

from __future__ import annotations

import click


@click.command()
def demo() -> None:
    """Watch it work: a small cluster on this machine gets this environment.

    Makes two virtual environments in a temporary directory (this downloads Dask), starts a scheduler and two workers
    in one of them, and removes everything at the end.
    """
    from dask_pkgsync.demo.story import run_demo

    run_demo()
