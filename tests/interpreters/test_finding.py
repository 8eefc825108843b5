"""An interpreter for a target is found on the machine, or downloaded; what does not work is passed by."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters import base_python, other_python
from uv import find_uv_bin

from dask_pkgsync import LayerError
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.interpreters.candidates import on_this_machine, without_repeats
from dask_pkgsync.interpreters.downloading import downloaded, find_argv, install_argv
from dask_pkgsync.interpreters.finding import Source, find_interpreter
from dask_pkgsync.interpreters.probing import Candidate, Unusable, Working, probe
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from collections.abc import Sequence

OWN = this_interpreter()
BASE = Candidate(Path(base_python()), "here")


def of(*candidates: Candidate, name: str = "a place") -> Source:
    return Source(name, lambda _: candidates)


def facts_of(python: str) -> Interpreter:
    found = probe(Candidate(Path(python), "a place"))
    assert isinstance(found, Working)
    return found.interpreter


def script(path: Path, text: str) -> Candidate:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Candidate(path, "a place")


def test_an_interpreter_says_what_it_is() -> None:
    """Through links, environments and scripts that start it, also one of another version."""
    assert facts_of(sys.executable) == OWN
    other = facts_of(other_python())
    assert other.feature_version != OWN.feature_version
    assert other.tag.startswith(f"cp{other.feature_version.replace('.', '')}-")
    assert other.tag.split("-")[2] == OWN.tag.split("-")[2]


def test_a_script_that_starts_an_interpreter_is_followed(tmp_path: Path) -> None:
    """An environment is made for the program itself: pyenv's shims look at the directory that they are called in."""
    found = probe(script(tmp_path / "shim", f'exec {base_python()} "$@"'))
    assert isinstance(found, Working)
    assert found.python.samefile(base_python())


def test_the_exact_release_comes_first_wherever_it_is() -> None:
    """Another release of the X.Y is taken only if no place has the exact one, and is told."""
    other = other_python()
    wanted = facts_of(other)
    found = find_interpreter(wanted, [of(BASE), of(Candidate(Path(other), "pyenv"))])
    assert found.interpreter == wanted
    assert any(f"{BASE.python} (here): it is {OWN.label}" in note for note in found.notes)
    later = replace(wanted, version=f"{wanted.feature_version}.99")
    found = find_interpreter(later, [of(Candidate(Path(other), "pyenv")), of(BASE)])
    assert found.interpreter == wanted
    assert found.notes[0] == f"the interpreter is {wanted.label}, from pyenv: {found.python}"
    assert found.notes[1] == f"the target's is {later.label}, which cannot be had here; packages fit all of its X.Y"


def test_any_release_will_do_where_only_an_x_y_is_wanted() -> None:
    """As for ``--python 3.12``."""
    found = find_interpreter(replace(OWN, version=OWN.feature_version), [of(BASE)])
    assert found.notes == (f"the interpreter is {OWN.label}, from here: {found.python}",)


def test_what_does_not_work_is_told_when_there_is_none(tmp_path: Path) -> None:
    """With every place that was looked at, and what to do."""

    def fails(wanted: Interpreter) -> Sequence[Candidate]:
        raise LayerError("interpreter", "no route to the mirror")

    broken = script(tmp_path / "broken", "echo 'cannot execute binary file' >&2; exit 126")
    silent = script(tmp_path / "silent", "exit 3")
    with pytest.raises(LayerError) as caught:
        find_interpreter(
            replace(OWN, version="3.9999.1"),
            [of(broken, silent, Candidate(tmp_path / "gone", "a place"), BASE), Source("a mirror", fails)],
        )
    text = str(caught.value)
    assert f"{tmp_path}/broken (a place): cannot execute binary file" in text
    assert f"{tmp_path}/silent (a place): it ends with status 3" in text
    assert f"{tmp_path}/gone (a place): it cannot be started: No such file or directory" in text
    assert f"(here): it is {OWN.label}" in text
    assert "a mirror: no route to the mirror" in text
    assert "uv python install 3.9999" in text


def test_an_interpreter_of_another_abi_is_not_the_wanted_one() -> None:
    """No extension module for a Python without a global lock can be loaded by one that has it."""
    python, _, platform = OWN.tag.split("-", 2)
    threads = replace(OWN, tag=f"{python}-{python}t-{platform}")
    with pytest.raises(LayerError, match="free-threaded"):
        find_interpreter(threads, [of(BASE)])


def test_where_a_machine_has_interpreters(tmp_path: Path) -> None:
    """PATH, the directories of uv and pyenv, and the roots of conda; each program once."""
    wanted = replace(OWN, version="3.77.2")
    places = ("path", "uv/cpython-3.77.2-linux-x86_64-gnu/bin", "uv/cpython-3.77.11-linux-x86_64-gnu/bin")
    for place in (*places, "pyenv/versions/3.77.0/bin", "conda/bin", "uv/cpython-3.77.2+freethreaded-linux/bin"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "python3.77").write_text("")
        (tmp_path / place / "python3.77").chmod(0o755)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "python3.77").symlink_to(tmp_path / "path" / "python3.77")
    environ = {
        "PATH": f"{tmp_path}/path:{tmp_path}/again",
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "uv"),
        "PYENV_ROOT": str(tmp_path / "pyenv"),
        "CONDA_PREFIX": str(tmp_path / "conda"),
    }
    found = [(one.source, one.python) for one in without_repeats(on_this_machine(wanted, environ))]
    assert found == [
        ("PATH", tmp_path / "path/python3.77"),
        ("uv", tmp_path / "uv/cpython-3.77.11-linux-x86_64-gnu/bin/python3.77"),
        ("uv", tmp_path / "uv/cpython-3.77.2-linux-x86_64-gnu/bin/python3.77"),
        ("pyenv", tmp_path / "pyenv/versions/3.77.0/bin/python3.77"),
        ("conda", tmp_path / "conda/bin/python3.77"),
    ]


def test_how_uv_is_asked(tmp_path: Path) -> None:
    """By argument vectors that read no configuration, and put nothing on PATH."""
    uv = Uv(Path("/uv"), Path("/python"), Path("/cache"))
    common = ["/uv", "--no-config", "--no-progress", "--color", "never", "--cache-dir", "/cache", "python"]
    wanted = Interpreter("cpython", "3.13.1", "linux-x86_64", "cp313-cp313t-manylinux_2_36_x86_64")
    assert install_argv(uv, wanted, tmp_path, exact=True) == [
        *common, "install", "--no-bin", "--install-dir", str(tmp_path), "cpython@3.13.1+freethreaded",
    ]  # fmt: skip
    options = ["--system", "--no-project", "--offline", "--no-python-downloads"]
    assert find_argv(uv, replace(wanted, tag="")) == [*common, "find", *options, "cpython@3.13"]


@pytest.mark.skipif(sys.platform != "linux", reason="uv's name of the platform is that of Linux")
def test_uv_downloads_it_once(tmp_path: Path, packed_interpreter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the mirror that the node's variables name, into our cache; where that fails, uv's words are told."""
    archive = tmp_path / "python.tar.gz"
    with tarfile.open(packed_interpreter) as packed, tarfile.open(archive, "w:gz", compresslevel=1) as bundle:
        for entry in packed:
            content = packed.extractfile(entry) if entry.isreg() else None
            entry.name = f"python/{entry.name}"  # as the archives of python-build-standalone have it
            bundle.addfile(entry, content)
    major, minor, patch = map(int, re.findall(r"\d+", OWN.version)[:3])
    system, _, machine = OWN.platform.partition("-")
    listing = {
        f"cpython-{OWN.version}-{system}-{machine}-gnu": {
            "name": "cpython", "arch": {"family": machine, "variant": None}, "os": system, "libc": "gnu",
            "major": major, "minor": minor, "patch": patch, "prerelease": "", "variant": None, "build": "1",
            "url": archive.as_uri(), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        }
    }  # fmt: skip
    (tmp_path / "listing.json").write_text(json.dumps(listing))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(tmp_path / "listing.json"))
    cache = open_cache(str(tmp_path / "cache"))
    uv = Uv(Path(find_uv_bin()), Path(base_python()), cache.uv)
    (found,) = downloaded(uv, cache, OWN, exact=True, timeout=60)
    assert facts_of(str(found.python)) == OWN
    assert found.python.is_relative_to(cache.root)
    archive.unlink()
    assert list(downloaded(uv, cache, OWN, exact=True, timeout=60)) == [found]
    with pytest.raises(LayerError, match=r"No download found|not found|No such file"):
        list(downloaded(uv, cache, replace(OWN, version=f"{OWN.feature_version}.99"), exact=True, timeout=60))


def test_an_incomplete_interpreter_is_unusable(tmp_path: Path, packed_interpreter: Path) -> None:
    """One that was built without a library of the system would fail later, in somebody's task."""
    from dask_pkgsync.interpreters.unpacking import unpack

    unpack(packed_interpreter, tmp_path / "python")
    assert isinstance(probe(Candidate(tmp_path / "python/bin/python", "here")), Working)
    for module in (tmp_path / "python").glob("lib/python*/lib-dynload/_sqlite3*"):
        module.unlink()
    found = probe(Candidate(tmp_path / "python/bin/python", "here"))
    assert isinstance(found, Unusable)
    assert "it cannot import sqlite3" in found.reason
