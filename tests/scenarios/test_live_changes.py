"""On real clusters a worker that takes a change live is as one that starts in it; otherwise it is restarted."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest
from clusters import Person, running

from dask_pkgsync.model.record import recorded
from dask_pkgsync.node.nanny import LACKS
from dask_pkgsync.scheduler.rollout import own_node

if TYPE_CHECKING:
    from pathlib import Path

    from clusters import Venvs

pytestmark = pytest.mark.cluster


def wheel(directory: Path, name: str, version: str, files: dict[str, str]) -> str:
    """Write a wheel with these files; those below ``data`` are installed below the prefix."""
    info, data = f"{name}-{version}.dist-info", f"{name}-{version}.data/"
    files = {data + path if path.startswith("data/") else path.replace("INFO", info): files[path] for path in files}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [*(recorded(path, text.encode()) for path, text in files.items()), f"{info}/RECORD,,"]
    files[f"{info}/RECORD"] = "\n".join(lines) + "\n"
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as bundle:
        for member, text in files.items():
            bundle.writestr(member, text)
    return str(path)


IMPORTS_MEANWHILE = """
import importlib, os, sys, threading

def watch(frame, event, _):
    "Import a package in another thread before the layer is activated; the change tells a function each step."
    if event == "call" and frame.f_code.co_name == "_nobody" and frame.f_locals["_step"] == "activate":
        sys.setprofile(None)
        task = threading.Thread(target=importlib.import_module, args=("six",))
        task.start()
        task.join()
        print("a task has imported it meanwhile", flush=True)

threading.setprofile(watch)
"""

LOOK = """
def outcomes(report):
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    nodes = {node.address: [node.outcome, *node.notes] for node in report.nodes}
    return {worker["name"]: nodes[worker["nanny"]] for worker in workers}
def nannies(function):
    return list(client.run(function, nanny=True).values())
"""
FIRST = """
client.wait_for_workers(2, timeout=60)
names = {worker["name"]: address for address, worker in client.scheduler_info(n_workers=-1)["workers"].items()}
client.submit(call, "import fsspec; answer = 1", workers=[names["looks"]]).result()
report = pkgsync.sync(client, progress=False)
client.wait_for_workers(2, timeout=60)
versions = "import six, importlib.metadata as m; answer = [six.__version__, m.version('six')]"
things = "import fsspec; answer = type(fsspec.filesystem('thing')).__name__"
import of_mine
client.register_plugin(of_mine.Here())
there = nannies(lambda dask_worker: "here" in dask_worker.plugins)
print(json.dumps([outcomes(report), everywhere(call, versions), everywhere(call, things), there]))
"""
SECOND = """
client.wait_for_workers(3, timeout=60)
there = nannies(lambda dask_worker: "here" in dask_worker.plugins)
def read():
    from pathlib import Path
    return Path(sys.prefix, "share", "brings", "table.txt").read_text()
report = pkgsync.sync(client, progress=False)
client.wait_for_workers(3, timeout=60)
found = everywhere(read)
in_front = [nannies(lambda: len([entry for entry in sys.path if "layers" in entry]))]
pkgsync.release(client)
in_front.append(nannies(lambda: len([entry for entry in sys.path if "layers" in entry])))
print(json.dumps([there, outcomes(report), report.nodes[0].notes, found, in_front]))
"""
NEW = "{}: only a process that starts in the environment finds the new ones"
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


def test_a_change_is_live_only_where_it_is_as_a_restart(tmp_path: Path, venvs: Venvs) -> None:
    """Imports meanwhile, plugins looked up before, and data below the prefix restart a worker; nannies change live."""
    person = Person(tmp_path / "person")
    points = "[fsspec.specs]\nthing = things.Thing\n"
    things = wheel(tmp_path, "things", "1.0", {"things.py": FILE_SYSTEM, "INFO/entry_points.txt": points})
    mine = wheel(tmp_path, "of_mine", "1.0", {"of_mine.py": NANNY_PLUGIN})
    person.install("six==1.17.0", things, mine)
    preload = tmp_path / "meanwhile.py"
    preload.write_text(IMPORTS_MEANWHILE)
    (tmp_path / "cluster").mkdir()
    with running(tmp_path / "cluster", venvs.base(), tmp_path / "cache", workers=0) as cluster:
        cluster.add_worker("--name", "races", "--preload", str(preload), name="races")
        cluster.add_worker("--name", "looks", name="looks")

        outcomes, versions, protocols, there = person.run(cluster, LOOK + FIRST)
        assert "a task has imported it meanwhile" in cluster.log("races")
        assert outcomes == {
            "races": ["restarted", "already imported in another version: six (as six)"],
            "looks": ["restarted", NEW.format("fsspec has looked up its plugins (fsspec.specs) already")],
        }
        assert versions == [["1.17.0", "1.17.0"]] * 2
        assert protocols == ["Thing", "Thing"]
        assert there == [True, True]

        cluster.add_worker("--name", "joins", name="joins")
        person.install(wheel(tmp_path, "brings", "1.0", {"brings.py": "", "data/share/brings/table.txt": "new"}))
        there, outcomes, of_scheduler, tables, in_front = person.run(cluster, LOOK + SECOND)
        reason = NEW.format("brings has files below sys.prefix, as share/brings/table.txt")
        note = f"{reason}; {LACKS.format(reason)}"
        assert outcomes == {name: ["restarted", note] for name in ("races", "looks", "joins")}
        assert of_scheduler == [own_node.LACKS.format(reason)]
        assert tables == ["new"] * 3
        assert there == [True] * 3
        assert in_front == [[1] * 3, [0] * 3]
