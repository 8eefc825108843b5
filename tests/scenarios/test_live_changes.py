"""On real clusters a worker that takes a change live is as one that starts in it; otherwise it is restarted."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest
from clusters import BASE_PACKAGES, Person, Venv, base_python, running, uv

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cluster


def wheel(directory: Path, name: str, version: str, files: dict[str, str]) -> str:
    """Write a wheel with these files; those below ``data`` are installed below the prefix."""
    info, data = f"{name}-{version}.dist-info", f"{name}-{version}.data/"
    files = {data + path if path.startswith("data/") else path.replace("INFO", info): files[path] for path in files}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as bundle:
        for member, text in files.items():
            bundle.writestr(member, text)
    return str(path)


def racing(directory: Path, version: str) -> str:
    """Write a package in two modules of one version."""
    text = f"__version__ = {version!r}\n"
    return wheel(directory, "racing", version, {"racing/__init__.py": text, "racing/late.py": text})


IMPORTS_MEANWHILE = """
import importlib, os, threading

def watch(frame, event, _):
    "Import a package in another thread before a step of the change, which tells its steps to a function."
    if event == "call" and frame.f_code.co_name == "_nobody" and frame.f_locals["_step"] == os.environ["RACE_BEFORE"]:
        task = threading.Thread(target=importlib.import_module, args=("racing",))
        task.start()
        task.join()
        print("raced before", os.environ["RACE_BEFORE"], flush=True)

threading.setprofile(watch)
"""

LOOK = """
def by_name(report):
    outcomes = {node.address: node.outcome for node in report.nodes}
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {worker["name"]: outcomes[worker["nanny"]] for worker in workers}
def nannies(function):
    return list(client.run(function, nanny=True).values())
client.wait_for_workers(2, timeout=60)
names = {address: worker["name"] for address, worker in client.scheduler_info(n_workers=-1)["workers"].items()}
"""
RACE = """
report = pkgsync.sync(client, progress=False)
client.wait_for_workers(2, timeout=60)
outcomes = by_name(report)
versions = "import racing, racing.late as late, importlib.metadata as m; "
versions += "answer = [racing.__version__, late.__version__, m.version('racing')]"
found = everywhere(call, versions)
import mine
client.register_plugin(mine.Here())
there = nannies(lambda dask_worker: "here" in dask_worker.plugins)
print(json.dumps([outcomes, [note for node in report.nodes for note in node.notes if "nanny" in note], found, there]))
"""
PLUGINS = """
one = next(worker for worker, name in names.items() if name == "activate")
client.submit(call, "import fsspec; answer = 1", workers=[one]).result()
outcomes = by_name(pkgsync.sync(client, progress=False))
client.wait_for_workers(2, timeout=60)
print(json.dumps([outcomes, everywhere(call, "import fsspec; answer = type(fsspec.filesystem('thing')).__name__")]))
"""
DATA = """
def read(names):
    from pathlib import Path
    return [Path(sys.prefix, "share", name, "table.txt").read_text() for name in names]
outcomes = by_name(pkgsync.sync(client, progress=False))
client.wait_for_workers(2, timeout=60)
found = everywhere(read, ["based", "brings"])
pkgsync.release(client)
in_front = nannies(lambda: [entry for entry in sys.path if "layers" in entry])
client.wait_for_workers(2, timeout=60)
pkgsync.sync(client, progress=False)
print(json.dumps([outcomes, found, in_front]))
"""
JOINED = """
client.wait_for_workers(3, timeout=60)
print(json.dumps(nannies(lambda dask_worker: "here" in dask_worker.plugins)))
"""
FILE_SYSTEM = """
from fsspec.implementations.memory import MemoryFileSystem
class Thing(MemoryFileSystem):
    protocol = "thing"
"""
NANNY_PLUGIN = """
from distributed import NannyPlugin
class Here(NannyPlugin):
    name = "here"
"""


def test_a_change_is_live_only_where_it_is_as_a_restart(tmp_path: Path) -> None:
    """Imports meanwhile, plugins looked up before, and data below the prefix restart a worker; nannies change live."""
    nodes, person = Venv(tmp_path / "nodes"), Person(tmp_path / "person")
    based = wheel(tmp_path, "based", "1.0", {"based.py": "", "data/share/based/table.txt": "of the base"})
    uv(["venv", "--python", base_python(), str(nodes.root)])
    uv(["pip", "install", "--python", nodes.python, *BASE_PACKAGES, based, racing(tmp_path, "1.0")])
    person.install(racing(tmp_path, "2.0"), based, wheel(tmp_path, "mine", "1.0", {"mine.py": NANNY_PLUGIN}))
    (tmp_path / "cluster").mkdir()
    preload = tmp_path / "meanwhile.py"
    preload.write_text(IMPORTS_MEANWHILE)
    with running(tmp_path / "cluster", nodes, tmp_path / "cache", workers=0) as cluster:
        for step in ("activate", "verify"):
            cluster.add_worker("--name", step, "--preload", str(preload), name=step, RACE_BEFORE=step)

        found = person.run(cluster, LOOK + RACE)
        assert "raced before activate" in cluster.log("activate")
        assert "raced before verify" in cluster.log("verify")
        assert found == [{"activate": "restarted", "verify": "live"}, [], [["2.0"] * 3] * 2, [True, True]]

        points = "[fsspec.specs]\nthing = things.Thing\n"
        person.install(wheel(tmp_path, "things", "1.0", {"things.py": FILE_SYSTEM, "INFO/entry_points.txt": points}))
        found = person.run(cluster, LOOK + PLUGINS)
        assert found == [{"activate": "restarted", "verify": "live"}, ["Thing", "Thing"]]

        person.install(wheel(tmp_path, "brings", "1.0", {"brings.py": "", "data/share/brings/table.txt": "new"}))
        found = person.run(cluster, LOOK + DATA)
        assert found == [{"activate": "restarted", "verify": "restarted"}, [["of the base", "new"]] * 2, [[], []]]

        cluster.add_worker(name="joins")
        assert person.run(cluster, LOOK + JOINED) == [True, True, True]
