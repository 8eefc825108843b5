"""Runs a command of Dask's in this process, under watch; where it does not arrive, what ran before is run again.

This file is a program: ``python guard.py STATE RUN -- -m MODULE ARGUMENT…``. It uses the standard library alone, and
must run on every Python that Dask runs on. STATE is what `process.relaunch` has written, RUN says which of its two
commands is run: ``new``, or ``before`` after that has failed.

A command has arrived when its scheduler listens, or when its workers have registered; `ARRIVAL` of the state names the
function that notices that (`node.arrival`, `scheduler.succession`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import sys
import threading
import traceback
import types
from collections import deque
from typing import Any

HOLDER = "_dask_pkgsync_relaunch"
"""The name of the module in which the process keeps its `Relaunched`, whatever copy of this package comes later."""
LAST_LINES = 40
"""The most lines of what a command says that are kept as its last words."""


class Relaunched:
    """How this process was relaunched.

    Parameters
    ----------
    state : dict
        What `process.relaunch` has written.
    path : str
        The file with it.
    run : str
        ``new`` or ``before``.
    """

    def __init__(self, state: dict[str, Any], path: str, run: str) -> None:
        self.state, self.path, self.run = state, path, run
        self.failure: str = state.get("failure", "")
        """The last words of the new command, if what ran before was run again after it."""
        self.arrived = threading.Event()
        """Set once the command does what it is to do."""
        self.lock = threading.Lock()
        self.said: deque[str] = deque(maxlen=LAST_LINES)
        """The last lines that the command has written to its standard error."""

    def arrive(self) -> None:
        """Note that the command does what it is to do: from now on its errors are its own."""
        with self.lock:
            self.arrived.set()
        self._say("runs")
        if self.run == "new":
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def watch(self) -> None:
        """Run what ran before in place of a command that has not arrived in time."""
        timeout = self.state["timeout"]
        if not self.arrived.wait(timeout):
            self.fall_back("it did not %s within %g s" % (self.state["aim"], timeout))

    def fall_back(self, problem: str) -> None:
        """Execute what ran before, with the last words of the command; returns if the command has arrived meanwhile."""
        with self.lock:
            if self.arrived.is_set():
                return
            self._say("failed: %s; what ran before is run again" % problem)
            before = self.state["runs"]["before"]
            words = "\n".join([*self.said, problem])[-8000:]
            state = {**self.state, "failure": words}
            write(self.path, state)
            execute(self.path, before, "before")

    def _say(self, what: str) -> None:
        run = self.state["runs"][self.run]
        sys.stderr.write("dask-pkgsync: %s in %s %s\n" % (run["shown"], run["python"], what))
        sys.stderr.flush()


class Hearing(io.TextIOBase):
    """Passes on what is written to the standard error, and keeps the last lines until the command has arrived."""

    def __init__(self, stream: Any, relaunched: Relaunched) -> None:
        self._stream, self._relaunched = stream, relaunched

    def write(self, text: str) -> int:
        """Pass a text on."""
        if not self._relaunched.arrived.is_set():
            self._relaunched.said.extend(line for line in text.splitlines() if line.strip())
        return int(self._stream.write(text))

    def flush(self) -> None:
        """Pass on at once what has been written."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the file descriptor of the stream."""
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return bool(self._stream.isatty())

    @property
    def buffer(self) -> Any:
        """The binary buffer of the stream."""
        return self._stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return str(self._stream.encoding)


def execute(path: str, run: dict[str, Any], name: str) -> None:
    """Execute a command of a state under this guard, in place of what this process runs.

    Parameters
    ----------
    path : str
        The file with the state.
    run : dict
        The command, one of ``runs`` of the state.
    name : str
        ``new`` or ``before``.
    """
    environment = dict(os.environ)
    for variable, value in run["variables"].items():
        if value is None:
            environment.pop(variable, None)
        else:
            environment[variable] = value
    argv = [run["python"], *run["options"], run["guard"], path, name, "--", *run["command"]]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os.execve(argv[0], argv, env=environment)  # noqa: S606  # no shell


def write(path: str, state: dict[str, Any]) -> None:
    """Write a state into a file that only this user can read, and that is whole or not there."""
    aside = "%s.%d" % (path, os.getpid())
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        json.dump(state, file)
    os.replace(aside, path)


def main() -> None:
    """Run the command that the arguments name."""
    path, name = sys.argv[1:3]
    with open(path) as file:
        state = json.load(file)
    run = state["runs"][name]
    relaunched = Relaunched(state, path, name)
    holder = types.ModuleType(HOLDER, __doc__)
    holder.relaunched = relaunched  # type: ignore[attr-defined]
    sys.modules[HOLDER] = holder
    sys.stderr = Hearing(sys.stderr, relaunched)
    _, module, *arguments = run["command"]
    sys.orig_argv = [sys.executable, *run["options"], *run["command"]]
    sys.argv = [module, *arguments]
    sys.path[0] = run["first"] if run["first"] is not None else os.getcwd()
    if name == "new":
        threading.Thread(target=relaunched.watch, name="dask-pkgsync guard", daemon=True).start()
    try:
        _load(run["source"], state["digest"], state["arrival"], relaunched)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except BaseException as error:
        if name == "new" and _is_failure(error):
            traceback.print_exc()
            relaunched.fall_back("it ended with an error: %s: %s" % (type(error).__name__, error))
        raise


def _load(source: str, digest: str, function: str, argument: Relaunched) -> None:
    """Call a function of the dask-pkgsync that is installed, if it is the same, else of the copy in `source`."""
    path = os.path.join(source, "dask_pkgsync", "carry", "bootstrap.py")
    names = runpy.run_path(path, run_name="dask_pkgsync_bootstrap")
    names["load"](b"", digest, function, argument)


def _is_failure(error: BaseException) -> bool:
    """Whether a command ended with an error; not if it was stopped, or ended as it should."""
    if isinstance(error, SystemExit):
        return error.code not in (None, 0)
    return not isinstance(error, KeyboardInterrupt)


if __name__ == "__main__":
    main()
