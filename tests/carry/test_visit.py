"""Calls of our functions in processes that need not have dask-pkgsync."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import zlib
from typing import Any

from dask_pkgsync.carry.visit import visit
from dask_pkgsync.model.environments.environment import environment_from_wire
from dask_pkgsync.scanning.snapshot import scan

OBSERVE = "dask_pkgsync.scanning.observation:observe"


def visited(message: dict[str, bytes]) -> dict[str, Any]:
    """Do what Dask's handler ``run`` does."""
    function, given = pickle.loads(message["function"]), pickle.loads(message["kwargs"])
    assert asyncio.iscoroutinefunction(function)
    return asyncio.run(function(**given))


def test_a_visit_sees_what_a_scan_sees_and_leaves_nothing():
    """A node answers with the environment that a scan there finds; no module and no finder of ours stays."""
    visited(visit(OBSERVE))  # imports the standard library's modules that it needs
    before = set(sys.modules), list(sys.meta_path), list(sys.path)
    answer = visited(visit(OBSERVE, with_environment=True))["result"]
    assert (set(sys.modules), list(sys.meta_path), list(sys.path)) == before
    seen = environment_from_wire(json.loads(zlib.decompress(answer["environment"])))
    assert seen == scan(modules=False, verify=True)
    assert visited(visit(OBSERVE, with_environment=False))["result"] == {
        **answer,
        "environment": b"",
        "imported": visited(visit(OBSERVE))["result"]["imported"],
    }


def test_a_visit_finds_the_loose_modules_that_are_asked_for(tmp_path, monkeypatch):
    """A loose module that is importable on the node is seen if the client has it; others are not."""
    for name in ("helpers", "others"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    answer = visited(visit(OBSERVE, modules=["helpers", "no_such_module"]))["result"]
    names = json.loads(zlib.decompress(answer["environment"]))["distributions"]
    assert "module-helpers" in names
    assert "module-others" not in names


def test_an_error_travels_as_text():
    """What our function raises arrives as text, as the other process need not have the class of the error."""
    answer = visited(visit("dask_pkgsync.model.text:counted", count=1))
    assert answer["error"].startswith("TypeError: counted()")


def test_a_visit_needs_no_dask_pkgsync(tmp_path):
    """A process that cannot import dask-pkgsync answers, and cannot import it afterwards either."""
    file = tmp_path / "message.pickle"
    file.write_bytes(pickle.dumps(visit(OBSERVE), 4))
    program = (
        "import asyncio, pickle, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] == 'dask_pkgsync': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "message = pickle.load(open(sys.argv[1], 'rb'))\n"
        "answer = asyncio.run(pickle.loads(message['function'])(**pickle.loads(message['kwargs'])))\n"
        "assert len(answer['result']['digest']) == 64, answer\n"
        "assert not [name for name in sys.modules if 'pkgsync' in name]\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_function_is_small():
    """A scheduler keeps the function in its events, so that the source is not part of it."""
    message = visit(OBSERVE)
    assert len(message["function"]) < 8_000 < len(message["kwargs"]) < 100_000
