"""What local code costs on its way: upload and fan-out, an edit of a project, packing what is installed.

Workers that share a cache stand for a host; there are eight hosts with one worker each. Peers: the same bytes in the
same parts over a Dask connection and nowhere else; `UploadDirectory`; ``pip wheel``; ``zip -0``.
"""

from __future__ import annotations

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
sys.path.insert(0, str(Path(__file__).parents[1]))

from clusters import BASE_PACKAGES, Cluster, Person, Venv, base_python, uv
from uv import find_uv_bin

from benchmarks.checkout import imports
from benchmarks.race import Race, Scale
from benchmarks.table import Table
from benchmarks.wheels import HAS_UV
from dask_pkgsync.client.blob_provider import BlobProvider
from dask_pkgsync.model.blobs import CHUNK, BlobRequest, blob_to_wire
from dask_pkgsync.options.person import packer
from dask_pkgsync.scanning.records import dist_infos, entries
from dask_pkgsync.wheels.repack import repack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UPLOAD_PEERS = {"the same bytes over a connection": "<= 1.43 (70 %)", "the same bytes to the disk": ""}

BEGIN = """
import time
from pathlib import Path
client.wait_for_workers(WORKERS)
result = {}
here = Path(__file__).parent

def timed(name, function, *args):
    started = time.perf_counter()
    value = function(*args)
    result.setdefault(name, []).append(time.perf_counter() - started)
    return value
"""

UPLOAD = f"""
{BEGIN}
import asyncio
{imports(BlobProvider=BlobProvider, BlobRequest=BlobRequest, blob_to_wire=blob_to_wire, packer=packer)}
"""
UPLOAD += """
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

async def wait_for(dask_scheduler, blob):
    # As a node waits for it; otherwise the scheduler takes nothing.
    from dask_pkgsync.model.blobs import blob_from_wire
    from dask_pkgsync.scheduler.blobs.providers import PendingBlob
    providers = dask_scheduler.extensions["pkgsync"].blob_service.providers
    connection = dask_scheduler.clients[providers.newest.client]
    arrival = asyncio.get_running_loop().create_future()
    providers.open[blob_from_wire(blob).request] = PendingBlob(arrival, providers.newest, connection)

client.register_plugin(pkgsync.PackageSync(only=["six"], modules=False))
for _ in range(RUNS):
    (here / "large" / "data.bin").write_bytes(os.urandom(SIZE))
    plugin = pkgsync.PackageSync(only=["module-large"])
    blob, path = timed("pack", lambda: packer(plugin.snapshot).pack(
        next(BlobRequest(d.name, d.version, d.identity) for d in plugin.snapshot.environment.distributions.values()
             if d.name == "module-large")))
    timed("the same bytes over a connection", client.sync, raw, path)
    timed("the same bytes to the disk", copy, path)
    client.run_on_scheduler(wait_for, blob=blob_to_wire(blob))
    timed("upload", client.sync, BlobProvider(client, plugin.snapshot)._upload, blob, path)
uploaded = [event["bytes"] for _, event in client.get_events("pkgsync") if event["action"] == "uploaded"]
assert uploaded.count(blob.size) == RUNS
print(json.dumps(result))
"""

FAN_OUT = f"""
{BEGIN}
from distributed.diagnostics.plugin import UploadDirectory
(here / "large" / "data.bin").write_bytes(os.urandom(SIZE))
"""
FAN_OUT += """
timed("UploadDirectory", lambda: client.register_plugin(UploadDirectory(str(here / "large"), update_path=True)))
client.wait_for_workers(WORKERS)
timed("sync to the workers", lambda: pkgsync.sync(client, only=["module-large"], progress=False))
events = [event for _, event in client.get_events("pkgsync")]
(wheel,) = [event for event in events if event["action"] == "uploaded" and event["bytes"] > SIZE][-1:]
served = [event for event in events if event["action"] == "served" and event["package"] == wheel["package"]]
result["served"] = sum(event["bytes"] for event in served)
result["wheel"] = wheel["bytes"]
assert len(served) == HOSTS
assert everywhere(call, "import large; answer = large.data.stat().st_size") == [SIZE] * WORKERS
print(json.dumps(result))
"""

EDIT = """
import time
client.wait_for_workers(WORKERS)
def timed():
    started = time.perf_counter()
    pkgsync.sync(client, only=["mine"], modules=False, progress=False)
    return time.perf_counter() - started
result = {"first": timed()}
source.write_text("answer = 2\\n")
result["after an edit"] = timed()
result["nothing changed"] = timed()
assert everywhere(call, "import mine; answer = mine.answer") == [2] * WORKERS
print(json.dumps(result))
"""

PROJECT = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    '[project]\nname = "mine"\nversion = "1.0"\n[tool.setuptools]\npackages = ["mine"]\n',
    "mine/__init__.py": "answer = 1\n",
}


@contextlib.contextmanager
def running(root: Path, hosts: int, per_host: int) -> Iterator[Cluster]:
    """Run a scheduler, and so many workers on each of so many hosts, each with a cache of its own."""
    venv = Venv(root / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, *BASE_PACKAGES])
    cluster = Cluster(root, venv, root / "cache-scheduler", env=HAS_UV)
    try:
        cluster.start_scheduler()
        for host in map(str, range(hosts)):
            env = {"DASK_PKGSYNC__CACHE_DIRECTORY": str(root / f"cache-{host}")}
            cluster.add_worker("--nworkers", str(per_host), name=f"host{host}", **env)
        yield cluster
    finally:
        cluster.stop()


def upload(cluster: Cluster, person: Person, hosts: int, workers: int, size: int, runs: int) -> Iterator[Table]:
    """Measure the way of a large module."""
    init = "from pathlib import Path\ndata = Path(__file__).with_name('data.bin')\n"
    person.write({"large/__init__.py": init}, "job")
    (person.home / "job" / "large" / "data.bin").write_bytes(os.urandom(size))
    begin = f"CHUNK, SIZE, RUNS, WORKERS, HOSTS = {CHUNK}, {size}, {runs}, {workers}, {hosts}\n"
    limit = {"DASK_PKGSYNC__MODULES_LIMIT": "1 GB"}
    hop: dict[str, list[float]] = person.run(cluster, begin + UPLOAD, **limit)
    found = person.run(cluster, begin + FAN_OUT, **limit)
    served, wheel = found.pop("served"), found.pop("wheel")
    seconds: dict[str, list[float]] = {"pack": hop.pop("pack"), **found}
    order = ("upload", *UPLOAD_PEERS)
    title = f"{size / 1e6:g} MB to the scheduler, verified and on its disk"
    yield Table(title, {name: hop[name] for name in order}, "upload", UPLOAD_PEERS)
    title = f"{size / 1e6:g} MB to {workers} workers on {hosts} hosts"
    yield Table(title, seconds, "sync to the workers")
    sent = {"through the scheduler's link": [served], "the wheel once": [wheel], "once for each host": [hosts * wheel]}
    goals = {"the wheel once": "<= 1.1"}
    title = f"bytes of a wheel of {wheel / 1e6:.0f} MB that left the scheduler, to {hosts} hosts"
    yield Table(title, sent, "through the scheduler's link", goals, unit="B")


def edit(cluster: Cluster, person: Person, workers: int, scale: Scale) -> Table:
    """Measure a sync after an edit of an editable project."""
    project = person.write(PROJECT, "mine")
    person.install("-e", str(project), "pip", "setuptools")
    names = f"from pathlib import Path\nsource = Path({str(project)!r}) / 'mine' / '__init__.py'\n"
    found: dict[str, Any] = person.run(cluster, f"WORKERS = {workers}\n{names}{EDIT}")
    seconds = {name: [value] for name, value in found.items()}
    with tempfile.TemporaryDirectory() as directory:
        copy = str(shutil.copytree(project, Path(directory, "copy")))
        peers = {"the build alone (uv build)": [find_uv_bin(), "build", "-q", "--wheel", copy]}
        if not scale.small:
            pip = [person.venv.python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", directory]
            peers["pip wheel"] = [*pip, copy]
        for name, argv in peers.items():
            started = perf_counter()
            subprocess.run(argv, check=True, cwd=directory, capture_output=True)
            seconds[name] = [perf_counter() - started]
    goals = {"the build alone (uv build)": "+ 2 s at most"}
    return Table("one line of an editable project", seconds, "after an edit", goals)


def pack(root: Path, packages: Sequence[str]) -> Race:
    """Pack what is installed."""
    root.mkdir()
    venv = Venv(root / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, *packages])
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
    return Race(f"{len(infos)} distributions, packed", {"repack": ours}, peers, runs=3)


def benchmark(scale: Scale) -> Iterator[Race | Table]:
    """Do all three."""
    hosts, per_host = scale.pick((8, 1), (2, 1))
    workers = hosts * per_host
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        yield pack(root / "pack", scale.pick(("pandas", "pyarrow", "scipy"), ("six", "tabulate")))
        person = Person(root / "person")
        with running(root, hosts, per_host) as cluster:
            yield edit(cluster, person, workers, scale)
            yield from upload(cluster, person, hosts, workers, *scale.pick((200_000_000, 5), (2_000_000, 1)))


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["local_code", *sys.argv[1:]])
