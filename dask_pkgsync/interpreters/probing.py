"""Asks an interpreter what it is, and whether it works: it may be built for another machine, or be incomplete."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import packaging

from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.model.child_environment import child_environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.text import printable, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

NEEDED = ("ssl", "sqlite3", "ctypes", "zlib", "lzma")
"""Modules of the standard library that need libraries of the system, so that an interpreter may lack them."""
TIMEOUT = 60.0
"""Seconds in which an interpreter must have answered."""

_PROGRAM = """
import json, sys
if sys.version_info < (3, 10):
    sys.exit("it is Python " + sys.version.split()[0] + ", and Python 3.10 or newer is needed")
import importlib, sysconfig
missing = {}
for name in sys.argv[3:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        missing[name] = str(error)
sys.path += sys.argv[1:3]
from dask_pkgsync.scanning.wheel_tag import wheel_tag
print(json.dumps({
    "python": getattr(sys, "_base_executable", None) or sys.executable,
    "interpreter": [sys.implementation.name, sys.version.split()[0].rstrip("+"), sysconfig.get_platform(), wheel_tag()],
    "missing": missing,
}))
"""


@dataclass(frozen=True)
class Candidate:
    """An interpreter that may be the wanted one."""

    python: Path
    """Path of its program, or of a script that starts it."""
    source: str
    """Where it was found, for people, for example ``pyenv``."""
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Environment variables that it needs."""


@dataclass(frozen=True)
class Working:
    """An interpreter that works."""

    python: Path
    """Path of its program, which is in no virtual environment."""
    interpreter: Interpreter


@dataclass(frozen=True)
class Unusable:
    """An interpreter that does not work, and why."""

    reason: str


def probe(candidate: Candidate) -> Working | Unusable:
    """Start an interpreter and ask it. Blocks.

    It runs without its site-packages, and writes nothing. Whether its environment is managed by somebody else (PEP 668)
    does not matter, as nothing is installed there.
    """
    places = [str(place) for place in (Path(__file__).parents[2], Path(packaging.__path__[0]).parent)]
    argv = [str(candidate.python), "-I", "-S", "-B", "-c", _PROGRAM, *places, *NEEDED]
    try:
        finished = run(argv, timeout=TIMEOUT, env={**child_environment(os.environ), **candidate.variables})
    except DeadlineExceededError as error:
        return Unusable(str(error))
    except OSError as error:
        return Unusable(f"it cannot be started: {error.strerror or error}")
    try:
        said = json.loads(finished.stdout.strip().splitlines()[-1])
        python, interpreter = Path(said["python"]), Interpreter(*map(str, said["interpreter"]))
        missing = dict(said["missing"])
    except (ValueError, KeyError, IndexError, TypeError):
        return Unusable(_words(finished.stderr or finished.stdout) or f"it ends with status {finished.returncode}")
    if missing:
        reasons = (f"{name} ({shown(printable(reason), 100)})" for name, reason in missing.items())
        return Unusable(f"it cannot import {', '.join(reasons)}")
    return Working(python, interpreter)


def _words(output: str) -> str:
    """Return the line of an output that says what is wrong: the last one of a traceback, else the first one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    is_traceback = any(line.startswith("Traceback") for line in lines)
    return shown(printable(lines[-1 if is_traceback else 0]), 200) if lines else ""
