"""Distributions that conda has installed become wheels where that can be right, for nodes that are none of conda."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from importlib.metadata import distribution
from typing import TYPE_CHECKING

import pytest
from clusters import Venv, base_python, uv
from conda_channel import PLACEHOLDER, PYTHON, Channel, Package, distribution_package, made_up_distribution, make_prefix

from dask_pkgsync import WheelError
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.blobs import request_for
from dask_pkgsync.model.environments.origin import FromConda
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.snapshot import Snapshot, verified
from dask_pkgsync.wheels.inspection import inspect
from dask_pkgsync.wheels.linked_libraries import needed_libraries
from dask_pkgsync.wheels.pack import Packer

if TYPE_CHECKING:
    from pathlib import Path

    from dask_pkgsync.model.blobs import Blob

SITE = f"lib/python{PYTHON}/site-packages"
_OF_C = b"libc.so.6\0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prefix with the tools that nodes need, and with distributions that are tied to it in several ways."""
    root = tmp_path_factory.mktemp("conda-wheels")
    channel = Channel(root / "channel")
    python = Package("python", f"{PYTHON}.0", "h0_0_cpython")
    python.add(f"{SITE}/README.txt", "Here are the distributions.\n")
    tied = Package("tied", "1.0", "pyh0_0", noarch="python")
    made_up_distribution(tied, "tied", "1.0", f"HOME = {PLACEHOLDER!r}\n")
    linked = distribution_package(distribution("markupsafe"), needs=())
    (library,) = (path for path in linked.files if path.endswith(".so"))
    content = linked.files[library]
    linked.add(library, content.data.replace(_OF_C, b"libq.so.6\0"), content.mode)
    plain = Package("plain", "1.0", "pyh0_0", noarch="python")
    made_up_distribution(plain, "plain", "1.0")
    plain.add("python-scripts/plain-command", f"#!{PLACEHOLDER}/bin/python\nprint('plain')\n", 0o755)
    record = "site-packages/plain-1.0.dist-info/RECORD"
    text = plain.files[record].data.decode() + "../../../bin/plain-command,sha256=AAAA,10\n"
    plain.add(record, text)
    channel.add(python, tied, linked, plain)
    channel.add(*(distribution_package(distribution(name), needs=()) for name in ("uv", "py-rattler", "tornado")))
    channel.index()
    specs = ["python", "tied", "markupsafe", "plain", "uv", "py-rattler", "tornado"]
    prefix = make_prefix(channel.url, root / "prefix", specs)
    shutil.rmtree(channel.root)
    return prefix


@pytest.fixture
def packer(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packer:
    """Return what gives the wheels of that prefix, which is this process's environment."""
    monkeypatch.syspath_prepend(str(made / SITE))
    return Packer(Snapshot(verified(scan_installed())), open_cache(str(tmp_path / "cache")))


def packed(packer: Packer, name: str) -> tuple[Blob, Path]:
    """Return the wheel of a distribution, which belongs to a conda package."""
    one = packer.snapshot.environment.distributions[name]
    assert isinstance(one.origin, FromConda)
    blob, path = packer.pack(request_for(one))
    inspect(path, name=name, version=one.version)
    assert blob.note == ""
    return blob, path


def test_the_tools_of_nodes_travel_from_conda_as_wheels(packer: Packer, tmp_path: Path) -> None:
    """Programs and compiled modules that need the libraries of the system alone run where no conda is."""
    uv(["venv", "--python", base_python(), str(tmp_path / "venv")])
    venv = Venv(tmp_path / "venv")
    wheels = [str(packed(packer, name)[1]) for name in ("uv", "py-rattler", "tornado", "plain")]
    uv(["pip", "install", "--no-deps", "--python", venv.python, *wheels])
    for argv, said in (
        ([tmp_path / "venv/bin/uv", "--version"], f"uv {distribution('uv').version}"),
        ([venv.python, "-c", "import rattler, os; print(rattler.__version__, flush=True); os._exit(0)"], "0."),
        ([venv.python, "-c", "from tornado import speedups; print('works')"], "works"),
        ([tmp_path / "venv/bin/plain-command"], "plain"),
    ):
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.startswith(said)
    with zipfile.ZipFile(wheels[0]) as bundle:
        assert [name for name in bundle.namelist() if name.endswith(".data/scripts/uv")]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tied", "conda has written the path of its prefix into tied.py"),
        ("markupsafe", "needs libq.so.6, which is in the prefix of conda"),
    ],
)
def test_what_is_tied_to_its_prefix_is_refused(name: str, problem: str, packer: Packer) -> None:
    """It would look for files, or load libraries, that only the prefix has."""
    with pytest.raises(WheelError) as caught:
        packed(packer, name)
    assert problem in caught.value.problem
    assert "Install it with pip or uv into this environment" in caught.value.advice


def test_a_compiled_file_says_what_it_needs(made: Path, tmp_path: Path) -> None:
    """Scripts and other files need nothing; a damaged file is an error."""
    program = made / "bin/uv"
    assert "libc.so.6" in (needed_libraries(program) or ())
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\n")
    assert needed_libraries(text) is None
    for size in (10, 70, 300):
        damaged = tmp_path / "damaged"
        damaged.write_bytes(program.read_bytes()[:size])
        with pytest.raises(ValueError, match="damaged"):
            needed_libraries(damaged)
