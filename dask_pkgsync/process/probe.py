"""Looks whether an environment can run a command, before any process is relaunched in it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_pkgsync.process.relaunch import Run

PROBE_TIMEOUT = 120.0
"""Seconds in which the child must have imported everything."""
_PROGRAM = """
import importlib, importlib.util, json, os, sys
first, source, modules, files = json.loads(sys.argv[1])
sys.path[0] = os.getcwd() if first is None else first
sys.path.insert(0, source)
for name in modules:
    print("importing", name, file=sys.stderr)
    importlib.import_module(name)
for place, path in enumerate(files):
    print("importing", path, file=sys.stderr)
    sys.path.insert(1, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location("pkgsync_probe_%d" % place, path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
sys.stdout.flush()
os._exit(0)  # what a preload has started must not keep the child
"""
WORDS = 20
"""The lines of what the child said last that a failure shows."""


def probe(run: Run, source: str, preloads: Sequence[str], environ: Mapping[str, str]) -> None:
    """Let a child in the new environment import what a command needs. Blocks.

    Parameters
    ----------
    run : Run
        The command in its new environment.
    source : str
        The directory with a copy of this package.
    preloads : sequence of str
        The preloads of the command: names of modules and paths of files; addresses and program text are passed over.
    environ : mapping of str to str
        The environment variables of this process.

    Raises
    ------
    LayerError
        If the child does not start, or cannot import something; it has the child's last words.
    """
    modules = ["distributed", run.command.entry, *(name for name in preloads if is_module(name))]
    files = [name for name in preloads if name.endswith(".py") and "://" not in name]
    state = run.to_state(source)
    given = json.dumps([state["first"], source, modules, files])
    variables = {**environ, **{name: value for name, value in run.variables.items() if value is not None}}
    removed = {name for name, value in run.variables.items() if value is None}
    try:
        done = subprocess.run(
            [run.python, *run.command.options, "-c", _PROGRAM, given],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT,
            check=False,
            env={name: value for name, value in variables.items() if name not in removed},
        )
    except subprocess.TimeoutExpired:
        raise _failure(run, f"it did not end within {PROBE_TIMEOUT:g} s", "") from None
    except OSError as error:  # glibc, architecture, a file system that runs no programs
        raise _failure(run, f"it cannot be executed: {error}", "") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        tried = [line.partition(" ")[2] for line in lines if line.startswith("importing ")]
        what = f"it cannot import {tried[-1]}" if tried else f"it ended with status {done.returncode}"
        raise _failure(run, what, "\n".join(line for line in lines[-WORDS:] if not line.startswith("importing ")))


def is_module(preload: str) -> bool:
    """Whether a preload is the name of a module, and not a file, an address or the text of a program."""
    return not preload.endswith(".py") and "://" not in preload and not set(preload) & set(" \n\t") and bool(preload)


def _failure(run: Run, problem: str, words: str) -> LayerError:
    return LayerError(
        "probe",
        f"the environment was built, and the command of this process would not run in it: {problem}",
        advice=f"Try it on the node: {run.python} -c 'import {run.command.entry}'",
        last_words=words,
    )
