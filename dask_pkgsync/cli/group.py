"""The group of commands ``dask pkgsync …``, which are also those of ``dask-pkgsync …``.

Dask imports this module whenever any of its commands runs, so it imports only click. The module of a command is
imported when the command is used. A command that needs no cluster imports neither Dask nor distributed, so that
``dask-pkgsync`` starts faster than ``dask`` itself, which imports the commands of every package that has some.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

from dask_pkgsync.version import __version__

COMMANDS = ("check", "compare", "demo", "release", "run", "scan", "status", "sync")
"""The names of the commands. Each is a module in this package that defines a command of the same name."""


class Commands(click.Group):
    """Imports each command when it is used, and prints expected errors without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command with this name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"dask_pkgsync.cli.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a `PkgsyncError` is printed and the exit status is 1, other errors keep their traceback."""
        from dask_pkgsync.model.errors import PkgsyncError

        try:
            return super().invoke(ctx)
        except PkgsyncError as error:
            raise click.ClickException(str(error)) from error


@click.group(name="pkgsync", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="dask-pkgsync")
def pkgsync() -> None:
    """Make a Dask cluster run your Python environment."""
