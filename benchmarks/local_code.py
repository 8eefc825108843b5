"""What local code costs on its way: upload and fan-out, an edit of a project, packing what is installed.

Eight workers with two caches stand for two hosts. Peers: the same bytes in the same parts over a Dask connection and
nowhere else; `UploadDirectory`; ``pip wheel``; ``zip -0``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from clusters import BASE_PACKAGES, Cluster, Person, Venv, base_python, uv
from table import measure, show

from dask_pkgsync.scanning.records import dist_infos, entries
from dask_pkgsync.wheels.repack import repack

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 200_000_000
CHUNK = 8 << 20
UPLOAD_PEERS = {"the same bytes over a connection": "<= 1.43 (70 %)", "the same bytes to the disk": ""}

UPLOAD = """
import asyncio, time
from pathlib import Path
from dask_pkgsync.client.blob_provider import BlobProvider
from dask_pkgsync.options.person import local_snapshot, packer
from dask_pkgsync.model.blobs import BlobRequest
client.wait_for_workers(8)
result = {}
here = Path(__file__).parent

def sink(dask_scheduler):
    async def handle(data):
        return len(data)
    dask_scheduler.handlers["sink"] = handle

client.run_on_scheduler(sink)

async def raw(path):
    with open(path, "rb") as file:
        while data := file.read(CHUNK):
            await client.scheduler.sink(data=data)

def copy(path):
    with open(path, "rb") as file, open(path.with_suffix(".copy"), "wb", 0) as target:
        while data := file.read(CHUNK):
            target.write(data)
    path.with_suffix(".copy").unlink()

def timed(name, function, *args):
    started = time.perf_counter()
    value = function(*args)
    result.setdefault(name, []).append(time.perf_counter() - started)
    return value

from distributed.diagnostics.plugin import UploadDirectory
timed("UploadDirectory", lambda: client.register_plugin(UploadDirectory(str(here / "large"), update_path=True)))
client.wait_for_workers(8)
client.register_plugin(pkgsync.PackageSync(only=["six"], modules=False))
for _ in range(RUNS):
    (here / "large" / "data.bin").write_bytes(os.urandom(SIZE))
    plugin = pkgsync.PackageSync(only=["module-large"])
    blob, path = timed("pack", lambda: packer(plugin.snapshot).pack(
        next(BlobRequest(d.name, d.version, d.identity) for d in plugin.snapshot.environment.distributions.values()
             if d.name == "module-large")))
    timed("the same bytes over a connection", client.sync, raw, path)
    timed("the same bytes to the disk", copy, path)
    timed("upload", client.sync, BlobProvider(client, plugin.snapshot)._upload, blob, path)
timed("sync to eight workers", lambda: pkgsync.sync(client, only=["module-large"], progress=False))
events = [event for _, event in client.get_events("pkgsync")]
result["served"] = sum(event["bytes"] for event in events if event["action"] == "served") / blob.size
assert everywhere(call, "import large; answer = large.data.stat().st_size") == [SIZE] * 8
print(json.dumps(result))
"""

EDIT = """
import time
client.wait_for_workers(8)
def timed():
    started = time.perf_counter()
    pkgsync.sync(client, only=["mine"], modules=False, progress=False)
    return time.perf_counter() - started
result = {"first": timed()}
source.write_text("answer = 2\\n")
result["after an edit"] = timed()
result["nothing changed"] = timed()
assert everywhere(call, "import mine; answer = mine.answer") == [2] * 8
print(json.dumps(result))
"""

PROJECT = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    '[project]\nname = "mine"\nversion = "1.0"\n[tool.setuptools]\npackages = ["mine"]\n',
    "mine/__init__.py": "answer = 1\n",
}


@contextlib.contextmanager
def two_hosts(root: Path) -> Iterator[Cluster]:
    """Run a scheduler and eight workers with three caches."""
    root.mkdir()
    venv = Venv(root / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, *BASE_PACKAGES])
    cluster = Cluster(root, venv, root / "cache-scheduler")
    try:
        cluster.start_scheduler()
        for host in ("one", "two"):
            env = {"DASK_PKGSYNC__CACHE_DIRECTORY": str(root / f"cache-{host}")}
            cluster.add_worker("--nworkers", "4", name=host, **env)
        yield cluster
    finally:
        cluster.stop()


def upload(root: Path, person: Person, runs: int = 5) -> None:
    """Measure the way of 200 MB."""
    person.write(
        {"large/__init__.py": "from pathlib import Path\ndata = Path(__file__).with_name('data.bin')\n"}, "job"
    )
    (person.home / "job" / "large" / "data.bin").write_bytes(os.urandom(SIZE))
    with two_hosts(root) as cluster:
        script = f"CHUNK, SIZE, RUNS = {CHUNK}, {SIZE}, {runs}\n{UPLOAD}"
        found = person.run(cluster, script, DASK_PKGSYNC__MODULES_LIMIT="1 GB")
    served = found.pop("served")
    seconds: dict[str, list[float]] = found
    hop = {name: seconds.pop(name) for name in ("upload", *UPLOAD_PEERS)}
    show("200 MB to the scheduler, verified and on its disk", hop, "upload", UPLOAD_PEERS)
    show("200 MB to eight workers on two hosts", seconds, "sync to eight workers", {})
    print(f"bytes that left the scheduler: {served:.2f} times the wheel (goal: 2, one for each host)")


def edit(root: Path, person: Person) -> None:
    """Measure a sync after an edit of an editable project."""
    project = person.write(PROJECT, "mine")
    person.install("-e", str(project), "pip", "setuptools")
    with two_hosts(root) as cluster:
        found: dict[str, Any] = person.run(
            cluster, f"from pathlib import Path\nsource = Path({str(project)!r}) / 'mine' / '__init__.py'\n{EDIT}"
        )
    seconds = {name: [value] for name, value in found.items()}
    copy = shutil.copytree(project, root / "copy")
    for name, argv in {
        "pip wheel": [person.venv.python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(root / "out"), str(copy)],
        "the build alone (uv build)": [
            shutil.which("uv") or f"{sys.prefix}/bin/uv",
            "build",
            "-q",
            "--wheel",
            str(copy),
        ],
    }.items():
        started = perf_counter()
        subprocess.run(argv, check=True, cwd=root, capture_output=True)
        seconds[name] = [perf_counter() - started]
    show("One line of an editable project", seconds, "after an edit", {"the build alone (uv build)": "+ 2 s at most"})


def pack(root: Path, runs: int) -> None:
    """Measure packing what is installed."""
    root.mkdir()
    venv = Venv(root / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, "pandas", "pyarrow", "scipy"])
    (site,) = venv.root.glob("lib/python*/site-packages")
    infos = list(dist_infos(site).values())
    names = [entry.path for info in infos for entry in entries(info) if not entry.path.startswith("..")]
    listed = "\n".join(name for name in names if (site / name).exists() and not name.endswith(".pyc"))

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=root) as directory:
            for info in infos:
                repack(info, Path(directory))

    def peer() -> None:
        with tempfile.TemporaryDirectory(dir=root) as directory:
            argv = ["zip", "-0", "-q", f"{directory}/all.zip", "-@"]
            subprocess.run(argv, input=listed, text=True, check=True, cwd=site)

    peers = {"zip -0": peer} if shutil.which("zip") else {}
    show(f"{len(infos)} distributions, packed", measure({"repack": ours, **peers}, runs), "repack", {})


def main(argv: list[str] | None = None) -> None:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args(argv).runs
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        person = Person(root / "person")
        pack(root / "pack", runs)
        edit(root / "edit", person)
        upload(root / "upload", person, runs)


if __name__ == "__main__":
    main()
