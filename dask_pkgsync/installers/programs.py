"""Runs a program with a time limit, and leaves none of its processes behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL to a process group."""


@dataclass(frozen=True)
class Finished:
    """The result of a program that ended by itself."""

    argv: tuple[str, ...]
    returncode: int
    """Exit status; a negative number is that of the signal that killed it."""
    stdout: str
    stderr: str
    seconds: float


class DeadlineExceededError(Exception):
    """A program did not end in time; its whole process group was killed."""

    def __init__(self, argv: Sequence[str], timeout: float, stderr: str) -> None:
        super().__init__(argv, timeout, stderr)
        self.argv, self.timeout, self.stderr = tuple(argv), timeout, stderr

    def __str__(self) -> str:
        """Name the program, and the seconds after which it was killed."""
        return f"{os.path.basename(self.argv[0])} did not end within {self.timeout:g} s and was killed"  # noqa: PTH119


def run(argv: Sequence[str], *, timeout: float, env: Mapping[str, str], cwd: Path | None = None) -> Finished:
    """Run a program in a process group of its own.

    The output goes to files, not pipes: a grandchild that goes on running could keep a pipe open for ever.

    Parameters
    ----------
    argv : sequence of str
        The program and its arguments.
    timeout : float
        Seconds after which the whole group is killed.
    env : mapping
        Its environment variables: never this process's own, which may lead it to a repository or environment of the
        user's (`model.child_environment`).
    cwd : Path, optional
        Its working directory.

    Raises
    ------
    DeadlineExceededError
        If it did not end in time.
    OSError
        If it could not be started.
    """
    started = monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=cwd, start_new_session=True
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            end_group(process)
            raise DeadlineExceededError(argv, timeout, _text(err)) from None
        except BaseException:
            end_group(process)
            raise
        seconds = monotonic() - started
        return Finished(tuple(argv), process.returncode, _text(out), _text(err), seconds)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End all processes of a process group: with SIGTERM, and after `GRACE` seconds with SIGKILL."""
    _signal(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    _signal(
        process.pid, getattr(signal, "SIGKILL", signal.SIGTERM)
    )  # its children may still run when the process itself has ended
    process.wait()


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(
        ProcessLookupError, PermissionError
    ):  # all have ended; on macOS, also if only zombies are left
        os.killpg(group, number)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
