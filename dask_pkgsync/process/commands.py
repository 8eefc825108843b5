"""The command of a running Dask process, as another interpreter can run it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PkgsyncError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPTS = {
    "dask": "dask",
    "dask-scheduler": "distributed.cli.dask_scheduler",
    "dask-worker": "distributed.cli.dask_worker",
}
"""By name of a script that Dask installs, the module that does the same with ``python -m``."""
MODULES = {
    "dask": "dask",
    "dask.__main__": "dask",
    "distributed.cli.dask_scheduler": "distributed.cli.dask_scheduler",
    "distributed.cli.dask_spec": "distributed.cli.dask_spec",
    "distributed.cli.dask_worker": "distributed.cli.dask_worker",
}
"""The modules of Dask that are run with ``python -m``, with their usual names."""
SUBCOMMANDS = {
    "scheduler": "distributed.cli.dask_scheduler",
    "spec": "distributed.cli.dask_spec",
    "worker": "distributed.cli.dask_worker",
}
"""The commands of ``dask`` that run a scheduler or workers, with the module of each."""
_SHOWN = 80
"""The most characters of one part of a command that a message shows."""
_WITH_VALUE = "WX"
"""The options of an interpreter that take a value, by their letter (``python --help``)."""


class NoDaskCommandError(PkgsyncError):
    """A process was not started by a command of Dask's, so it cannot be started again in another interpreter.

    Attributes
    ----------
    shown : str
        The command, shortened.
    """

    def __init__(self, shown: str) -> None:
        super().__init__(shown)
        self.shown = shown

    def __str__(self) -> str:
        """Name the command, and those that can be started again."""
        return (
            f"this process runs {self.shown}, which is no command of Dask's (dask scheduler, dask worker, dask spec): "
            "it cannot be started again in another Python"
        )


@dataclass(frozen=True)
class Command:
    """A command of Dask's."""

    options: tuple[str, ...]
    """Options of the interpreter, for example ``("-u", "-W", "ignore")``."""
    module: str
    """The module that the interpreter runs as ``__main__``, for example ``dask``."""
    arguments: tuple[str, ...]
    """What follows it on the command line, for example ``("worker", "tcp://10.0.0.1:8786")``."""
    is_script: bool = False
    """Whether the process was started by a script such as ``bin/dask``, so that the directory of the script is on the
    search path, and not the working directory."""

    @property
    def entry(self) -> str:
        """The module of the command itself, for example ``distributed.cli.dask_worker``."""
        return SUBCOMMANDS[self.arguments[0]] if self.module == "dask" else self.module

    def __str__(self) -> str:
        """Return the command for people, without its arguments, which may hold secrets."""
        return " ".join(("python", "-m", self.module, *self.arguments[: 1 if self.module == "dask" else 0]))


def own_command() -> Command:
    """Return the command of this process.

    Raises
    ------
    NoDaskCommandError
        If it is none of Dask's.
    """
    return command_of(sys.orig_argv)


def command_of(argv: Sequence[str]) -> Command:
    """Return the command that an argument vector (`sys.orig_argv`) starts.

    Raises
    ------
    NoDaskCommandError
        If it is none of Dask's.
    """
    options, rest = _options(argv[1:])
    match rest:
        case ["-m", module, *arguments] if module in MODULES:
            command = Command(options, MODULES[module], tuple(arguments))
        case [script, *arguments] if PurePath(script).name in SCRIPTS and options[-1:] not in (("-c",), ("-m",)):
            command = Command(options, SCRIPTS[PurePath(script).name], tuple(arguments), is_script=True)
        case _:
            raise NoDaskCommandError(_shown(rest))
    if command.module == "dask" and command.arguments[:1] not in [(name,) for name in SUBCOMMANDS]:
        raise NoDaskCommandError(_shown(rest))
    return command


def _options(argv: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the options of the interpreter, and the rest; ``-m`` and its module begin the rest, as two entries."""
    options: list[str] = []
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        option = rest.pop(0)
        if option.startswith("--"):
            options.append(option)
            if option == "--check-hash-based-pycs" and rest:
                options.append(rest.pop(0))
            continue
        for place, letter in enumerate(option[1:], 1):
            value = option[place + 1 :]
            if letter in "cm":
                if place > 1:
                    options.append(option[:place])
                return tuple(options), [f"-{letter}", *([value] if value else []), *rest]
            if letter in _WITH_VALUE:
                if not value and rest:
                    options += [option, rest.pop(0)]
                else:
                    options.append(option)
                break
        else:
            options.append(option)
    return tuple(options), rest


def _shown(rest: Sequence[str]) -> str:
    """Return a command for people, without its arguments, which may hold secrets."""
    shown = [text if len(text) < _SHOWN else f"{text[:_SHOWN]}…" for text in rest[: 2 if rest[:1] == ["-m"] else 1]]
    return " ".join(("python", *shown)).splitlines()[0]
