"""Executes this process anew in another interpreter: the same process id, the same command.

What it needs is decided before: the command (`process.commands`), the variables (`changed_variables`), and what is
run again where that fails. The new interpreter runs the command under a guard (`process.guard`).
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

from dask_pkgsync.cache.leases import keep_leases_when_executing
from dask_pkgsync.process import guard
from dask_pkgsync.process.commands import Command, own_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.process.whole import Whole


@dataclass(frozen=True)
class Run:
    """What a process executes."""

    python: str
    """Path of the interpreter."""
    command: Command
    variables: Mapping[str, str | None]
    """What changes in the environment variables; None removes a variable."""

    def to_state(self, source: str) -> dict[str, Any]:
        """Return it as `process.guard` reads it.

        Parameters
        ----------
        source : str
            The directory with a copy of this package.
        """
        command = self.command
        return {
            "python": self.python,
            "options": list(command.options),
            "command": ["-m", command.module, *command.arguments],
            "shown": str(command),
            "first": str(Path(self.python).parent) if command.is_script else None,
            "variables": dict(self.variables),
            "source": source,
            "guard": str(Path(source) / "dask_pkgsync" / "process" / "guard.py"),
        }


@dataclass(frozen=True)
class Relaunch:
    """A process that is ready to be executed anew."""

    token: str
    """Names this relaunch of this process: what it is executed as tells the scheduler that it has returned."""
    new: Run
    before: Run
    """What this process runs now."""
    origin: Run
    """What it was first started as."""
    arrival: str
    """``module:name`` of the function by which the new process notices that it has arrived."""
    aim: str
    """What the new process has to do in time, for example ``register``."""
    timeout: float
    """Seconds in which it has to do that."""
    data: Mapping[str, Any]
    """What that function needs to know, as plain data."""


def prepare_relaunch(whole: Whole, *, arrival: str, aim: str, timeout: float, data: Mapping[str, Any]) -> Relaunch:
    """Return how this process is executed anew in another interpreter; changes nothing.

    Parameters
    ----------
    whole : Whole
        The environment to run in.
    arrival, aim, timeout, data
        See `Relaunch`.

    Raises
    ------
    NoDaskCommandError
        If this process was started by no command of Dask's.
    """
    command = own_command()
    changes = changed_variables(os.environ, whole.environ())
    before = Run(sys.executable, command, {name: os.environ.get(name) for name in changes})
    new = Run(str(whole.python), command, changes)
    return Relaunch(uuid4().hex, new, before, _origin(before), arrival, aim, timeout, data)


def back_to_origin(*, arrival: str, aim: str, timeout: float, data: Mapping[str, Any]) -> Relaunch:
    """Return how this process is executed as it was first started; changes nothing.

    Parameters
    ----------
    arrival, aim, timeout, data
        See `Relaunch`.

    Raises
    ------
    NoDaskCommandError
        If this process was started by no command of Dask's.
    """
    before = Run(sys.executable, own_command(), {})
    origin = _origin(before)
    before = replace(before, variables={name: os.environ.get(name) for name in origin.variables})
    return Relaunch(uuid4().hex, origin, before, origin, arrival, aim, timeout, data)


def _origin(before: Run) -> Run:
    """Return what this process was first started as; its variables undo all relaunches."""
    known = relaunched()
    if known is None:
        return before
    origin = known.state["origin"]
    variables = {**before.variables, **origin["variables"]}
    _, module, *arguments = origin["command"]
    command = Command(tuple(origin["options"]), module, tuple(arguments), is_script=origin["first"] is not None)
    return Run(origin["python"], command, variables)


def relaunched() -> Any:
    """Return how this process was relaunched (`process.guard.Relaunched`); None if it was not."""
    return getattr(sys.modules.get(guard.HOLDER), "relaunched", None)


def write_state(relaunch: Relaunch, cache: Cache, source: str, digest: str) -> str:
    """Write what the new process needs into a file of the cache that only this user can read; return its path. Blocks.

    Parameters
    ----------
    relaunch : Relaunch
    cache : Cache
    source : str
        The directory with a copy of this package, without any other package.
    digest : str
        The name of that copy (`carry.archive.Copy.digest`).
    """
    state = {
        "token": relaunch.token,
        "digest": digest,
        "runs": {"new": relaunch.new.to_state(source), "before": relaunch.before.to_state(source)},
        "origin": relaunch.origin.to_state(source),
        "arrival": relaunch.arrival,
        "aim": relaunch.aim,
        "timeout": relaunch.timeout,
        "data": dict(relaunch.data),
    }
    directory = cache.root / "relaunches"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = str(directory / f"{relaunch.token}.json")
    guard.write(path, json.loads(json.dumps(state)))
    return path


def execute(path: str) -> NoReturn:
    """Execute this process anew, by a state that `write_state` has written.

    Raises
    ------
    OSError
        If the new interpreter cannot be executed; this process then goes on.
    """
    keep_leases_when_executing()
    guard.execute(path, _state(path)["runs"]["new"], "new")
    raise AssertionError("os.execve does not return")


def execute_again(path: str, problem: str) -> NoReturn:
    """Execute what this process runs now once more: it cannot be executed anew, and cannot go on either.

    Parameters
    ----------
    path : str
        The file that `write_state` has written.
    problem : str
        Why, for the person.
    """
    state = {**_state(path), "failure": problem}
    guard.write(path, state)
    guard.execute(path, state["runs"]["before"], "before")
    raise AssertionError("os.execve does not return")


def _state(path: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(Path(path).read_text())
    return state


def changed_variables(present: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    """Return how the environment variables of a process change when it is executed in another environment.

    Entries of PYTHONPATH stay that hold no installed packages: modules of the operator's, such as preloads.

    Parameters
    ----------
    present : mapping of str to str
        The variables of this process.
    wanted : mapping of str to str
        Those of a process in the environment (`Whole.environ`).

    Returns
    -------
    dict
        The new values; None for a variable that is to be removed.
    """
    entries = [entry for entry in present.get("PYTHONPATH", "").split(os.pathsep) if entry]
    loose = os.pathsep.join(entry for entry in entries if not _holds_installed_packages(entry))
    wanted = {**wanted, **({"PYTHONPATH": loose} if loose else {})}
    names = sorted({*present, *wanted})
    return {name: wanted.get(name) for name in names if present.get(name) != wanted.get(name)}


def _holds_installed_packages(entry: str) -> bool:
    try:
        return any(path.suffix in (".dist-info", ".egg-info") for path in Path(entry).iterdir())
    except OSError:
        return False
