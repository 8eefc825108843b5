"""The command line: ``dask pkgsync …``.

Dask imports this file whenever any of its commands runs, so it imports click alone; the file of a command is imported
when that command is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

COMMANDS = ("check", "compare", "demo", "release", "scan", "status", "sync")
"""Each is a file beside this one, which has a command of its name."""


class Commands(click.Group):
    """Imports commands when they are asked for, and tells errors that are meant for people in their sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command by its name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"dask_pkgsync.cli.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error for people is its sentence and exit status 1, others keep their traceback."""
        from dask_pkgsync.model.errors import PkgsyncError

        try:
            return super().invoke(ctx)
        except PkgsyncError as error:
            raise click.ClickException(str(error)) from error


@click.group(name="pkgsync", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dask-pkgsync")
def pkgsync() -> None:
    """Make a Dask cluster run your Python environment."""
