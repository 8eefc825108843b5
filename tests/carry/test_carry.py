"""The package travels as source to processes that do not have it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from distributed.diagnostics.plugin import WorkerPlugin

import dask_pkgsync
from dask_pkgsync.carry import archive, bootstrap, stand_in
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.target import Target
from dask_pkgsync.node.nanny import NannySync
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scheduler.rollout.parcels import parcels_of

if TYPE_CHECKING:
    from types import ModuleType

SOURCE = Path(dask_pkgsync.__file__).parents[1]
ARCHIVE = zlib.decompress(archive.copy().compressed)

UNPICKLE = """
import asyncio, json, pickle, sys
plugin = pickle.loads(sys.stdin.buffer.read())
asyncio.run(plugin.become())
module = sys.modules["dask_pkgsync.node.nanny"]
print(json.dumps([plugin.target.id, module.__file__]))
"""


def unpickle_elsewhere(
    data: bytes, tmp_path: Path, script: str = UNPICKLE, **env: str
) -> subprocess.CompletedProcess[bytes]:
    """Load a pickle in a process that has Dask and, unless the environment says otherwise, not this package."""
    hide = f"import sys; sys.path[:] = [p for p in sys.path if p != {str(SOURCE)!r}]\n"
    finder = "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    surroundings = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), **env}
    surroundings.pop("PYTHONPATH", None)
    return subprocess.run(
        [sys.executable, "-c", hide + finder + script],
        input=data,
        capture_output=True,
        env=surroundings,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )


TARGET = Target(Environment.of(this_interpreter(), ()), Policy())
PLUGIN = NannySync(TARGET)


class Call:
    """A call that is made at the other end."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def test_the_archive_is_the_same_for_the_same_source() -> None:
    """Making the archive twice gives the same bytes, so that its digest names the source."""
    package = SOURCE / "dask_pkgsync"
    assert archive.zipped(package) == archive.zipped(package)
    assert archive.source_digest() == hashlib.sha256(zlib.decompress(archive.copy().compressed)).hexdigest()


def test_only_what_nodes_need_travels() -> None:
    """The command line and the demo stay at home; plugins, core and defaults travel."""
    names = set(zipfile.ZipFile(io.BytesIO(ARCHIVE)).namelist())
    assert {"dask_pkgsync/__init__.py", "dask_pkgsync/pkgsync.yaml", "dask_pkgsync/scheduler/clients/gate.py"} <= names
    assert not names & {"dask_pkgsync/cli/group.py", "dask_pkgsync/cli/sync.py", "dask_pkgsync/demo/story.py"}
    assert not any("__pycache__" in name for name in names)


def test_a_process_without_the_package_imports_the_carried_copy(tmp_path: Path) -> None:
    """Unpickling in a process that lacks the package imports it from the archive, kept in our own cache."""
    finished = unpickle_elsewhere(pickle.dumps(PLUGIN), tmp_path)
    assert finished.returncode == 0, finished.stderr.decode()
    target, file = json.loads(finished.stdout)
    assert target == TARGET.id
    stored = tmp_path / "cache" / "dask-pkgsync" / "carried" / f"dask_pkgsync-{archive.source_digest()[:32]}"
    assert file.startswith(str(stored))
    assert archive.zipped(stored / "dask_pkgsync") == ARCHIVE


def test_the_copy_is_unpacked_once_and_keeps_its_bytecode(tmp_path: Path) -> None:
    """A second process finds the copy in place, and the bytecode of the modules that the first one has imported."""
    data = pickle.dumps(PLUGIN)
    assert unpickle_elsewhere(data, tmp_path, PYTHONDONTWRITEBYTECODE="").returncode == 0
    (stored,) = (tmp_path / "cache" / "dask-pkgsync" / "carried").iterdir()
    assert list(stored.rglob("__pycache__/nanny.*.pyc"))
    files = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in stored.rglob("*") if path.is_file()}
    assert unpickle_elsewhere(data, tmp_path, PYTHONDONTWRITEBYTECODE="").returncode == 0
    assert {
        path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in stored.rglob("*") if path.is_file()
    } == files


def test_a_copy_of_which_a_file_is_gone_is_unpacked_anew(tmp_path: Path) -> None:
    """As after a cleaner of temporary directories; nothing else is left beside it."""
    data = pickle.dumps(PLUGIN)
    assert unpickle_elsewhere(data, tmp_path).returncode == 0
    (stored,) = (tmp_path / "cache" / "dask-pkgsync" / "carried").iterdir()
    (stored / "dask_pkgsync" / "node" / "nanny.py").unlink()
    assert unpickle_elsewhere(data, tmp_path).returncode == 0
    assert archive.zipped(stored / "dask_pkgsync") == ARCHIVE
    assert list(stored.parent.iterdir()) == [stored]


def test_a_configured_cache_directory_is_used(tmp_path: Path) -> None:
    """The carried copy goes where the operator wants our cache to be."""
    chosen = tmp_path / "chosen"
    finished = unpickle_elsewhere(pickle.dumps(PLUGIN), tmp_path, DASK_PKGSYNC__CACHE_DIRECTORY=str(chosen))
    assert finished.returncode == 0, finished.stderr.decode()
    assert json.loads(finished.stdout)[1].startswith(str(chosen / "carried"))


def test_a_cache_that_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    """Where the cache cannot be written the carried copy goes to a temporary directory that nobody else may write."""
    (tmp_path / "cache").write_text("a file in the place of the directory")
    finished = unpickle_elsewhere(pickle.dumps(PLUGIN), tmp_path, TMPDIR=str(tmp_path))
    assert finished.returncode == 0, finished.stderr.decode()
    private = tmp_path / f"dask-pkgsync-{os.getuid()}"
    assert json.loads(finished.stdout)[1].startswith(str(private))
    assert private.stat().st_mode & 0o777 == 0o700
    (private / "carried").chmod(0o777)
    finished = unpickle_elsewhere(pickle.dumps(PLUGIN), tmp_path, TMPDIR=str(tmp_path))
    assert f"other users may write to {private / 'carried'}" in finished.stderr.decode()


def test_a_damaged_copy_is_refused(tmp_path: Path) -> None:
    """An archive whose bytes are not those of its digest is not imported."""
    for damage in (b"no archive at all", zlib.compress(ARCHIVE[:-1] + b"x")):
        expression, names = PLUGIN.__reduce__()[1]
        names["arguments"]["compressed"] = damage
        finished = unpickle_elsewhere(pickle.dumps(Call(eval, (expression, names))), tmp_path)
        assert finished.returncode != 0
        assert b"damaged; register the plugin again" in finished.stderr


def test_another_version_gives_way(tmp_path: Path) -> None:
    """A process that has imported another version of the package takes the one that the plugin carries."""
    old = tmp_path / "old" / "dask_pkgsync"
    old.mkdir(parents=True)
    (old / "__init__.py").write_text("__version__ = '0.0.1'\n")
    code = f"import sys; sys.path.insert(0, {str(old.parent)!r}); import dask_pkgsync\n" + UNPICKLE
    finished = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(PLUGIN),
        capture_output=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr.decode()
    assert f"dask_pkgsync-{archive.source_digest()[:32]}" in json.loads(finished.stdout)[1]


def test_the_same_version_is_used_as_it_is() -> None:
    """Where the same source is imported already nothing is replaced."""
    before = sys.modules["dask_pkgsync"]
    plugin = pickle.loads(pickle.dumps(PLUGIN))
    asyncio.run(plugin.become())
    assert type(plugin) is NannySync
    assert plugin.target == TARGET
    assert sys.modules["dask_pkgsync"] is before


@pytest.mark.parametrize("module", [bootstrap, stand_in])
def test_what_travels_as_text_imports_nothing_of_ours(module: ModuleType) -> None:
    """The stand-in and the bootstrap run before the package is there, so they stand alone."""
    text = Path(str(module.__file__)).read_text()
    assert "from dask_pkgsync" not in text
    assert "import dask_pkgsync" not in text


def test_what_has_travelled_travels_on_as_it_came(tmp_path: Path) -> None:
    """A process that took a carried copy sends the same bytes on, and does not read the source for it again."""
    script = """
import asyncio, hashlib, pickle, shutil, sys
plugin = pickle.loads(sys.stdin.buffer.read())
asyncio.run(plugin.become())
shutil.rmtree(sys.path[0])
again = pickle.dumps(plugin)
print(hashlib.sha256(again).hexdigest())
"""
    data = pickle.dumps(PLUGIN)
    finished = unpickle_elsewhere(data, tmp_path, script)
    assert finished.stdout.decode().strip() == hashlib.sha256(data).hexdigest(), finished.stderr.decode()


def test_plugins_that_arrive_together_share_one_copy(tmp_path: Path) -> None:
    """Several plugins that are loaded in threads at the same time are all of one copy of the package."""
    script = """
import asyncio, pickle, sys
data = sys.stdin.buffer.read()
plugins = [pickle.loads(data) for _ in range(8)]

async def load():
    await asyncio.gather(*(plugin.become() for plugin in plugins))

asyncio.run(load())
print(len({type(plugin) for plugin in plugins}), sum("carried" in entry for entry in sys.path))
"""
    finished = unpickle_elsewhere(pickle.dumps(PLUGIN), tmp_path, script)
    assert finished.stdout.split() == [b"1", b"1"], finished.stderr.decode()


def test_unpickling_imports_nothing_of_ours(tmp_path: Path) -> None:
    """Dask unpickles plugins on an event loop, where nothing is imported: that is done in a thread."""
    script = """
import asyncio, pickle, sys, threading
from distributed.diagnostics.plugin import NannyPlugin
plugin = pickle.loads(sys.stdin.buffer.read())
assert isinstance(plugin, NannyPlugin) and plugin.name == "pkgsync"
print([name for name in sys.modules if name.startswith("dask_pkgsync")])

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("dask_pkgsync"):
            threads.add(threading.current_thread() is threading.main_thread())

threads = set()
sys.meta_path.insert(0, Finder())
asyncio.run(plugin.become())
print(threads)
"""
    finished = unpickle_elsewhere(pickle.dumps(PLUGIN), tmp_path, script)
    assert finished.stdout.splitlines() == [b"[]", b"{False}"], finished.stderr.decode()


def test_the_state_of_a_process_survives_a_newer_copy() -> None:
    """What a process must remember is the same object after our modules were replaced."""
    program = (
        f"import importlib, sys; module = importlib.import_module({this_process.__module__!r}); "
        "before = module.this_process(); sys.exit(importlib.reload(module).this_process() is not before)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_state_of_a_process_gets_what_a_newer_release_adds() -> None:
    """An object that an older release has made is completed with the defaults of fields that came later."""
    program = (
        "import sys, types; from dask_pkgsync.process import state; holder = types.ModuleType('holder'); "
        "holder.state = types.SimpleNamespace(token='old', layer='/layers/a'); sys.modules[state._NAME] = holder; "
        "found = state.this_process(); sys.exit((found.token, found.layer, found.sources, found.target) "
        "!= ('old', '/layers/a', {}, ''))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# -- references ------------------------------------------------------------------------------------------------------


REFERENCE = """
import asyncio, json, pickle, sys
asked = []
data, answers = pickle.loads(sys.stdin.buffer.read())
plugin = pickle.loads(data)

async def ask(**arguments):
    asked.append(arguments)
    return answers[arguments["with_source"]]

found = asyncio.run(plugin.become(ask))
module = sys.modules.get("dask_pkgsync.node.nanny")
print(json.dumps([found, type(plugin).__name__, [call["with_source"] for call in asked], module and module.__file__]))
print(asked[0], file=sys.stderr)
"""


def refer(tmp_path: Path, answers: dict[bool, Any], before: str = "") -> list[Any]:
    """Let a nanny become what it has a reference to, in a process of its own."""
    data = pickle.dumps((PARCELS.nanny, answers))
    finished = unpickle_elsewhere(data, tmp_path, before + REFERENCE)
    assert finished.returncode == 0, finished.stderr.decode()
    assert f"'role': 'nanny', 'target': '{TARGET.id}'" in finished.stderr.decode()
    found: list[Any] = json.loads(finished.stdout)
    return found


PARCELS = parcels_of(TARGET)
ANSWERS = {flag: PARCELS.content("nanny", with_source=flag) for flag in (False, True)}


def test_the_source_travels_once_to_each_host(tmp_path: Path) -> None:
    """The first process of a host asks for it, the others find it; a copy that was changed does not count."""
    assert len(PARCELS.nanny) < 20_000
    assert len(ANSWERS[True]["arguments"]["compressed"]) > 100_000 > len(pickle.dumps(ANSWERS[False]))
    first = refer(tmp_path, ANSWERS)
    assert first[:3] == [True, "NannySync", [False, True]]
    assert refer(tmp_path, ANSWERS) == [True, "NannySync", [False], first[3]]
    Path(first[3]).write_text(Path(first[3]).read_text() + "# changed\n")
    assert refer(tmp_path, ANSWERS)[2] == [False, True]
    assert refer(tmp_path, ANSWERS)[2] == [False]


def test_a_process_that_has_the_package_needs_no_source(tmp_path: Path) -> None:
    """Where the same source is installed, nothing is unpacked."""
    found = refer(tmp_path, ANSWERS, f"sys.path.insert(0, {str(SOURCE)!r})\n")
    assert found[:3] == [True, "NannySync", [False]]
    assert not (tmp_path / "cache").exists()


def test_a_reference_to_nothing_becomes_nothing(tmp_path: Path) -> None:
    """The cluster was released meanwhile; but a scheduler that does not know what it has sent is no such cluster."""
    assert refer(tmp_path, {False: {}, True: {}}) == [False, "NannyStandIn", [False], None]
    with pytest.raises(AssertionError, match="does not answer what is in it"):
        refer(tmp_path, {False: None, True: None})


@pytest.mark.parametrize(
    ("nanny", "verified", "asks"), [("tcp://a:1", True, 0), ("tcp://a:1", False, 1), ("", True, 1)]
)
def test_a_worker_that_its_nanny_has_verified_asks_for_nothing(
    nanny: str, verified: bool, asks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler sends its reference to each worker that registers, of which most have been verified before."""
    asked: list[str] = []

    async def parcel(*, role: str, target: str, with_source: bool) -> dict[str, Any]:
        asked.append(role)
        return {}

    monkeypatch.setattr(this_process(), "target", TARGET.id if verified else "another")
    worker: Any = SimpleNamespace(nanny=nanny, scheduler=SimpleNamespace(pkgsync_parcel=parcel))
    plugin = pickle.loads(PARCELS.worker)
    assert isinstance(plugin, WorkerPlugin)
    asyncio.run(plugin.setup(worker))
    assert asked == ["worker"] * asks
