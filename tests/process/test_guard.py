"""A process that is executed anew under a guard, and falls back; without Dask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dask_pkgsync.carry.archive import source_digest, unpacked
from dask_pkgsync.process import guard
from dask_pkgsync.process.relaunch import changed_variables

ARRIVAL = """
def notice(relaunched):
    print("notices", relaunched.run, relaunched.failure.splitlines()[-1:], flush=True)
    import _dask_pkgsync_relaunch
    assert _dask_pkgsync_relaunch.relaunched is relaunched
"""
NEW = """
import os, sys, _dask_pkgsync_relaunch as here
print('new', os.getpid(), os.environ.get('COLOUR'), sys.argv[1:], sys.orig_argv[-4:], flush=True)
"""
EXECUTE = """
import sys, json, os
sys.path.insert(0, sys.argv[1])
from dask_pkgsync.process import guard
print('pid', os.getpid(), flush=True)
guard.execute(sys.argv[2], json.load(open(sys.argv[2]))['runs']['new'], 'new')
"""
BEFORE = "import os, sys; print('before', os.getpid(), os.environ.get('COLOUR'), flush=True)\n"


def run(tmp_path: Path, new: str, *, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Execute the module `new_command` under the guard, with `before_command` as what ran before."""
    for name, text in (("arrivals", ARRIVAL), ("new_command", NEW + new), ("before_command", BEFORE)):
        (tmp_path / f"{name}.py").write_text(text)
    source = unpacked()
    common = {
        "python": sys.executable,
        "options": ["-u"],
        "first": str(tmp_path),
        "source": source,
        "shown": "the command",
    }
    common["guard"] = str(Path(source) / "dask_pkgsync" / "process" / "guard.py")
    runs = {
        "new": {**common, "command": ["-m", "new_command", "--port", "1"], "variables": {"COLOUR": "green"}},
        "before": {**common, "command": ["-m", "before_command"], "variables": {"COLOUR": None}},
    }
    state: dict[str, Any] = {
        "digest": source_digest(), "arrival": "arrivals:notice", "aim": "register", "timeout": timeout, "runs": runs
    }  # fmt: skip
    path = tmp_path / "state.json"
    guard.write(str(path), state)
    assert path.stat().st_mode & 0o777 == 0o600
    argv = [sys.executable, "-c", EXECUTE, source, str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100, cwd=tmp_path)


ARRIVES = "here.relaunched.arrive()\n"


def test_a_command_runs_in_the_same_process_until_it_ends(tmp_path: Path) -> None:
    """It has the pid, its arguments and its variables; once it has arrived, its errors are its own."""
    done = run(tmp_path, ARRIVES + "raise SystemExit(3)\n")
    pid = done.stdout.split()[1]
    assert done.stdout.splitlines()[1:] == [
        "notices new []",
        f"new {pid} green ['--port', '1'] ['-m', 'new_command', '--port', '1']",
    ]
    assert done.returncode == 3
    assert not (tmp_path / "state.json").exists()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise RuntimeError('no such preload')\n", "it ended with an error: RuntimeError: no such preload"),
        ("sys.exit('no scheduler there')\n", "it ended with an error: SystemExit: no scheduler there"),
        ("import time; time.sleep(100)\n", "it did not register within 1 s"),
    ],
)
def test_what_ran_before_runs_again_where_a_command_does_not_arrive(tmp_path: Path, program: str, words: str) -> None:
    """After an error or too long a time, what ran before has its variables again, the same pid, and the reason."""
    done = run(tmp_path, program, timeout=1.0)
    pid = done.stdout.split()[1]
    assert done.stdout.splitlines()[-2:] == [f"notices before [{words!r}]", f"before {pid} None"]
    assert done.returncode == 0


def test_a_command_that_was_stopped_stays_ended(tmp_path: Path) -> None:
    """It ends without an error before it has arrived: somebody has stopped it, and nothing runs again."""
    done = run(tmp_path, "sys.exit(0)\n")
    assert "before" not in done.stdout
    assert done.returncode == 0


def test_last_words_are_the_end_of_what_a_command_said(tmp_path: Path) -> None:
    """What the command wrote to its standard error is passed on, and kept for the person."""
    done = run(tmp_path, "print('the disk is full', file=sys.stderr)\nraise OSError('cannot start')\n")
    assert "the disk is full" in done.stderr
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["failure"].splitlines()[0] == "the disk is full"
    assert state["failure"].splitlines()[-1] == "it ended with an error: OSError: cannot start"


def test_only_modules_of_the_operators_stay_on_pythonpath(tmp_path: Path) -> None:
    """A directory with installed packages would stand before the new environment; one with a preload may stay."""
    packages, mine = tmp_path / "packages", tmp_path / "mine"
    (packages / "six-1.17.0.dist-info").mkdir(parents=True)
    mine.mkdir()
    present = {"PYTHONPATH": os.pathsep.join(map(str, (packages, mine, "/gone"))), "VIRTUAL_ENV": "/old", "HOME": "/h"}
    wanted = {"HOME": "/h", "VIRTUAL_ENV": "/new", "PATH": "/new/bin"}
    assert changed_variables(present, wanted) == {
        "PYTHONPATH": os.pathsep.join((str(mine), "/gone")),
        "VIRTUAL_ENV": "/new",
        "PATH": "/new/bin",
    }
    assert changed_variables({"PYTHONPATH": str(packages)}, {}) == {"PYTHONPATH": None}
