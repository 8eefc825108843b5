"""``dask pkgsync demo``: a demonstration with a real cluster on this machine."""

from __future__ import annotations

import click


@click.command()
def demo() -> None:
    """Show how a small cluster on this machine gets this environment.

    The demo makes two virtual environments in a temporary directory (this downloads Dask), starts a scheduler and two
    workers in one of them, and removes everything at the end.
    """
    from dask_pkgsync.demo.story import run_demo

    run_demo()
