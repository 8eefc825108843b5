"""The tests' own channel is a real one: what it has can be solved, installed and run."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from conda_channel import PLACEHOLDER, Channel, make_prefix, serving

if TYPE_CHECKING:
    from pathlib import Path


def said(*argv: Path | str) -> str:
    """Run a program and return what it printed."""
    return subprocess.run([str(part) for part in argv], capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_of_the_channel_runs(conda_channel: Channel, tmp_path: Path) -> None:
    """Interpreter, commands, compiled modules and a library with its prefix in it work at the place of the prefix."""
    with serving(conda_channel, "user:secret") as served:
        env = {"RATTLER_AUTH_FILE": served.auth_file(tmp_path)}
        prefix = make_prefix(served.url, tmp_path / "prefix", **env)
        with pytest.raises(AssertionError, match="401"):
            make_prefix(served.url, tmp_path / "other")
    assert said(prefix / "bin" / "python", "-c", "import distributed, sys; print(sys.prefix)") == str(prefix)
    assert said(prefix / "bin" / "greet") == "hello from 1.1 pyh0_0"
    assert said(prefix / "bin" / "foo") == f"{prefix} 2.2"
    library = (prefix / "lib" / "libfoo.so").read_bytes()
    assert f"{prefix}/share/foo\0".encode() in library
    assert PLACEHOLDER.encode() not in library
    names = {json.loads(path.read_text())["name"] for path in (prefix / "conda-meta").glob("*.json")}
    assert {"python", "dask-core", "msgpack-python", "libfoo", "twins", "greeter"} <= names
