"""Scans the environment of another interpreter, which need not have dask-pkgsync."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import packaging

from dask_pkgsync.model.child_environment import child_environment
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.errors import PkgsyncError

_PROGRAM = """
import sys
if sys.version_info < (3, 10):
    sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0])
path = [entry for entry in sys.path if entry]
sys.path.append(sys.argv[1])
from dask_pkgsync.scanning.installed import scan_installed
print(scan_installed(path).to_json())
"""


class InterpreterScanError(PkgsyncError):
    """Another interpreter could not be scanned.

    Attributes
    ----------
    python : str
        Path of the interpreter.
    last_words : str
        The end of the interpreter's output.
    """

    def __init__(self, python: str, last_words: str) -> None:
        super().__init__(python, last_words)
        self.python, self.last_words = python, last_words

    def __str__(self) -> str:
        """Name the interpreter and the end of its output."""
        return f"{self.python} could not be scanned; its last words:\n{self.last_words or '(none)'}"


def scan_other_interpreter(python: str, *, timeout: float = 60) -> Environment:
    """Run the scan in another interpreter.

    Parameters
    ----------
    python : str
        Path of the interpreter, Python 3.10 or newer.
    timeout : float
        Seconds that the scan may take.

    Raises
    ------
    InterpreterScanError
        If the program does not run, does not finish in time, or is no Python of a supported version.
    """
    with tempfile.TemporaryDirectory(prefix="dask-pkgsync-scan-") as directory:
        _copy_packages(Path(directory))
        command = [python, "-B", "-c", _PROGRAM, directory]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                env=child_environment(os.environ),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InterpreterScanError(python, str(error)) from None
    if done.returncode:
        raise InterpreterScanError(python, "\n".join(done.stderr.strip().splitlines()[-3:]))
    return Environment.from_json(done.stdout)


def _copy_packages(directory: Path) -> None:
    """Copy dask-pkgsync, and `packaging`, which its scan needs, to a directory for the other interpreter."""
    for source in (Path(__file__).parents[1], Path(packaging.__path__[0])):
        shutil.copytree(source, directory / source.name, ignore=shutil.ignore_patterns("__pycache__"))
