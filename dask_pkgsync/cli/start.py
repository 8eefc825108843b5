"""The program ``dask-pkgsync``: the commands, of which ``run`` starts at once what it has started before."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(prog_name: str = "dask-pkgsync") -> None:
    """Run the command line of this process."""
    if sys.argv[1:2] == ["run"] and (asked := _read(sys.argv[2:])) is not None:
        start_again(*asked)
    from dask_pkgsync.cli.group import pkgsync

    pkgsync(prog_name=prog_name)


def start_again(what: str, python: str, command: Sequence[str]) -> None:
    """Execute a command if the environment of a lock file is known and unchanged; else return.

    Parameters
    ----------
    what : str
        Path of the lock file.
    python : str
        The version of Python that was asked for; empty if none was.
    command : sequence of str
    """
    from dask_pkgsync.process.command import argv_in, execute, needs_dask
    from dask_pkgsync.process.recalled import recall
    from dask_pkgsync.process.surroundings import variables_in

    if (recalled := recall(what, python, dask=needs_dask(command))) is None:
        return
    environ = variables_in(*recalled)
    if (found := argv_in(recalled[0], command, environ)) is not None:
        try:
            execute(found, environ)
        except OSError:  # told by the usual way
            return


def _read(argv: list[str]) -> tuple[str, str, list[str]] | None:
    """Return environment, Python and command of a command line of ``run`` that is written in the usual way."""
    options = {"--environment": "", "--python": ""}
    left = list(argv)
    while left and left[0] != "--":
        name, equals, value = left.pop(0).partition("=")
        if name not in options or (not equals and not left):
            return None
        options[name] = value if equals else left.pop(0)
    what, command = options["--environment"], left[1:]
    return (what, options["--python"], command) if command and os.path.isfile(what) else None
