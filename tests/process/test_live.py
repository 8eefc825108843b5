"""A process that takes a layer live is then as one that starts in it, or it is as it was before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import locket
import packaging
import psutil
import pytest
from clusters import SOURCE, Venv, base_python, surroundings

from dask_pkgsync.model.record import recorded
from dask_pkgsync.process.live import Step

LIB = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"

CONFIG = f"home = {Path(base_python()).parent}\ninclude-system-site-packages = false\n"


class Place:
    """A base, layers for it, and processes of the base that take them live."""

    def __init__(self, root: Path) -> None:
        self.root, self.base = root, Venv(root / "base")
        Path(self.base.python).parent.mkdir(parents=True)
        Path(self.base.python).symlink_to(base_python())
        (self.base.root / "pyvenv.cfg").write_text(CONFIG)
        (self.base.root / LIB).mkdir(parents=True)
        for package in (locket, packaging, psutil):
            (self.base.root / LIB / package.__name__).symlink_to(Path(package.__file__).parent)

    def has(self, where: str, name: str, version: str, files: dict[str, str] | None = None) -> None:
        """Write a distribution into the base or a layer; the paths of its files are those of RECORD."""
        info = f"{name}-{version}.dist-info"
        package = {f"{name}/__init__.py": f"__version__ = {version!r}\n", f"{name}/late.py": ""}
        contents = dict(package if files is None else files)
        contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        if "entry_points.txt" in contents:
            contents[f"{info}/entry_points.txt"] = contents.pop("entry_points.txt")
        lines = [*(recorded(path, text.encode()) for path, text in contents.items()), f"{info}/RECORD,,"]
        contents[f"{info}/RECORD"] = "\n".join(lines) + "\n"
        contents["../../../pyvenv.cfg"] = CONFIG
        for path, text in contents.items():
            place = Path(os.path.normpath(self.root / where / LIB / path))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)

    def run(self, script: str, wanted: dict[str, str], *argv: str) -> Any:
        """Run a script in a process of the base that knows its layers and the target; return what it prints."""
        everything = [self.base.python, "-c", PREAMBLE + script, str(SOURCE), str(self.root), json.dumps(wanted), *argv]
        done = subprocess.run(everything, capture_output=True, text=True, check=False, env=surroundings(), timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


PREAMBLE = """
import importlib, importlib.metadata, json, os, sys, threading
sys.path.append(sys.argv[1])
from pathlib import Path
from dask_pkgsync.layers.layer import Layer
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.errors import RestartNeededError
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.target import Target
from dask_pkgsync.process.imports import remaining
from dask_pkgsync.process.live import take_live, take_partly
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.installed import scan_installed

def layer(name):
    return Layer(name, Path(sys.argv[2]) / name, False, ())

def target(wanted):
    base = scan_installed()
    there = {**base.distributions, **{name: Distribution(name, version) for name, version in wanted.items()}}
    return Target(Environment.of(base.interpreter, there.values()), Policy())

def in_a_task(name):
    got = []
    thread = threading.Thread(target=lambda: got.append(importlib.import_module(name)))
    thread.start()
    thread.join()
    return got[0]

def surroundings():
    return [list(sys.path), sys.executable, os.environ["PATH"], this_process().layer, this_process().target]

def taken(*args, **options):
    try:
        take_live(*args, **options)
    except RestartNeededError as reason:
        return str(reason)
    return "live"

wanted = target(json.loads(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return a base with two versions of what changes in two layers."""
    place = Place(tmp_path_factory.mktemp("place"))
    place.has("base", "changes", "1.0")
    place.has("base", "stays", "1.0")
    place.has("one", "changes", "2.0")
    shadowed = {"site.py": "", "json/decoder.py": ""}  # by the standard library, which every process has imported
    place.has("one", "comes", "1.0", {"comes/__init__.py": "__version__ = '1.0'\n", **shadowed})
    place.has("two", "changes", "2.0")
    place.has("two", "comes", "2.0")
    return place


RACE = """
step = sys.argv[4]
before, restart = surroundings(), []
outcome = taken(layer("one"), wanted, before=lambda now: restart.append(in_a_task("changes")) if now == step else None)
import changes, changes.late
print(json.dumps({
    "raced": len(restart),
    "outcome": outcome,
    "as before": surroundings() == before,
    "in memory": changes.__version__,
    "on the path": importlib.metadata.version("changes"),
    "later": Path(changes.late.__file__).parent == Path(changes.__file__).parent,
}))
"""


@pytest.mark.parametrize("step", get_args(Step))
def test_a_task_may_import_at_each_step(place: Place, step: str) -> None:
    """A task that imports a package that changes gets the new version, or the process restarts and is as before."""
    found = place.run(RACE, {"changes": "2.0", "comes": "1.0"}, step)
    assert found["raced"] == 1
    assert found["in memory"] == found["on the path"]
    assert found["later"]
    live = found["outcome"] == "live"
    assert live or found["outcome"] == "already imported in another version: changes (as changes)"
    assert found["as before"] is not live
    assert found["in memory"] == ("2.0" if live else "1.0")
    assert live is (step in ("wait for imports", "ask again", "verify", "end"))


HELD = """
import importlib.machinery
found, may_go_on = threading.Event(), threading.Event()

class LoadsLater(importlib.machinery.SourceFileLoader):
    "Has been told the file of a module, and waits before it makes the module."
    def create_module(self, spec):
        found.set()
        may_go_on.wait()

class Finds:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "changes":
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            spec.loader = LoadsLater(name, spec.origin)
            return spec

task = threading.Thread(target=importlib.import_module, args=("changes",))

def before(step):
    if step == "activate":
        sys.meta_path.insert(0, Finds)
        task.start()
        found.wait()
    if step == "wait for imports":
        threading.Thread(target=lambda: may_go_on.set()).start()

outcome = taken(layer("one"), wanted, before=before)
may_go_on.set()
task.join()
print(json.dumps([outcome, sys.modules["changes"].__version__, importlib.metadata.version("changes")]))
"""


def test_an_import_that_has_begun_is_waited_for(place: Place) -> None:
    """A task that has found a module in the base, and loads it only after the change, lets the process restart."""
    found = place.run(HELD, {"changes": "2.0", "comes": "1.0"})
    assert found == ["already imported in another version: changes (as changes)", "1.0", "1.0"]


NEVER_ENDS = """
from dask_pkgsync.process.live_change import live_change
started, may_end = threading.Event(), threading.Event()

class NeverFinds:
    "Looks for a module for ever."
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "changes":
            started.set()
            may_end.wait()

change = live_change(layer("one"), wanted)
sys.meta_path.insert(0, NeverFinds)
task = threading.Thread(target=importlib.import_module, args=("changes",))
task.start()
started.wait()
reason = change.wait_for_imports(patience=0)
may_end.set()
task.join()
print(json.dumps([reason, change.wait_for_imports()]))
"""


def test_an_import_that_does_not_end_is_not_waited_for_for_ever(place: Place) -> None:
    """A process whose task looks for a module for too long restarts, with the module's name as the reason."""
    found = place.run(NEVER_ENDS, {"changes": "2.0", "comes": "1.0"})
    assert found == ["a task is still importing: changes", None]


FROM_LAYER_TO_LAYER = """
one, two = target({"changes": "2.0", "comes": "1.0"}), target({"changes": "2.0", "comes": "2.0"})
back, base = target({"changes": "1.0"}), surroundings()
told = [taken(layer("one"), one)]
import changes
told.append(taken(layer("two"), two))
told.append(changes.__version__)
at_two = surroundings()
told.append(taken(None, back))
told.append(surroundings() == at_two)
import comes
told.append(comes.__version__)
told.append(taken(layer("one"), one))
print(json.dumps(told))
"""


def test_from_layer_to_layer_only_what_differs_counts(place: Place) -> None:
    """What was imported from the last layer, and is the same in the next, stays; what differs or is gone does not."""
    found = place.run(FROM_LAYER_TO_LAYER, {})
    assert found == [
        "live",
        "live",
        "2.0",
        "already imported in another version: changes (as changes)",
        True,
        "2.0",
        "already imported in another version: comes (as comes)",
    ]


GONE = """
wanted = target({"changes": "2.0", "comes": "1.0"})
told = [taken(layer("one"), wanted)]
import comes
without = [entry for entry in sys.path if not entry.startswith(str(layer("one").root))]
told.append(taken(None, Target(scan_installed(without), Policy())))
print(json.dumps(told))
"""


def test_what_the_next_environment_lacks_may_not_be_imported(place: Place) -> None:
    """A process that has imported a package which the next environment lacks restarts."""
    assert place.run(GONE, {}) == ["live", "already imported, and missing from the new environment: comes"]


NOT_WHAT_IT_SAYS = """
before = surroundings()
print(json.dumps([taken(layer("one"), target({"changes": "2.0", "comes": "3.0"})), surroundings() == before]))
"""


def test_a_process_that_does_not_match_is_as_before(place: Place) -> None:
    """Where the verification finds that the layer is not the target, the layer is removed again."""
    reason, as_before = place.run(NOT_WHAT_IT_SAYS, {})
    assert "comes 3.0 is not there" in reason
    assert "\n" not in reason
    assert as_before


HALFWAY = """
before = surroundings()
try:
    take_live(layer("halfway"), wanted)
except OSError as error:
    print(json.dumps([Path(error.filename).name, surroundings() == before]))
"""


def test_an_activation_that_fails_halfway_is_undone(tmp_path: Path) -> None:
    """Where a layer cannot be activated to the end, the process has what it had before."""
    place = Place(tmp_path)
    place.has("halfway", "comes", "1.0")
    (tmp_path / "halfway" / "pyvenv.cfg").unlink()
    assert place.run(HALFWAY, {"comes": "1.0"}) == ["pyvenv.cfg", True]


PARTLY = """
import changes
before, base = surroundings(), target({"changes": "1.0"})
told = [take_partly(layer("one"), wanted, programs=False), take_partly(layer("one"), wanted, programs=False)]
import comes
told.append(comes.__version__)
told.append(surroundings()[1:3] == before[1:3])
told.append(take_partly(layer("two"), target({"changes": "2.0", "comes": "2.0"}), known=["changes"], programs=False))
told.append(take_partly(None, base, programs=False))
told.append(surroundings() == before)
print(json.dumps(told))
"""


def test_a_process_that_cannot_restart_tells_what_it_lacks(place: Place) -> None:
    """It takes what it can, tells each time what it keeps in another version, and its own programs stay as they are."""
    late = "it has imported another version of {} than {} already"
    assert place.run(PARTLY, {"changes": "2.0", "comes": "1.0"}) == [
        [late.format("changes", "2.0")],
        [late.format("changes", "2.0")],
        "1.0",
        True,
        [late.format("comes", "2.0")],
        [],
        True,
    ]


TAKE = """
for name in sys.argv[4:]:
    importlib.import_module(name)
print(json.dumps(taken(layer("next"), wanted)))
"""
READS = """
from functools import cache
from importlib.metadata import entry_points
"""
LOOKED_UP = (
    "{} has looked up its plugins ({}) already: only a process that starts in the environment finds the new ones"
)


@pytest.mark.parametrize(
    ("group", "reader", "source", "restarts"),
    [
        ("looks.plugins", "looks", "entry_points(group=f'{__name__}.plugins')", True),
        ("looks_plugins", "looks", "entry_points(group=f'{__name__}_plugins')", True),
        ("some-name", "looks", "def find(): return entry_points(group='some-name')", True),
        ("some-name", "looks", "@cache\ndef find(): return entry_points(group='some-name')", True),
        ("some-name", "looks", "class Host:\n  @classmethod\n  def find(cls): entry_points(group='some-name')", True),
        ("some-name", "looks", "GROUP = 'some-name'\nfound = entry_points(group=GROUP)", True),
        ("some-name", "looks", "entry_points(group='some-other-name')", False),
        ("looks.plugins", "json", "", False),
        ("json.plugins", "json", "", False),
        ("console_scripts", "looks", "def find(): return entry_points(group='console_scripts')", False),
        ("pygments.lexers", "pygments", "", False),
        ("dask.sizeof", "dask.sizeof", "", True),
        ("dask.array.backends", "dask.sizeof", "", False),
    ],
)
def test_plugins_that_were_looked_up_before_mean_a_restart(
    tmp_path: Path, group: str, reader: str, source: str, *, restarts: bool
) -> None:
    """Where an imported module may have looked up a group of plugins, the process restarts for new ones."""
    place = Place(tmp_path)
    for path in ("looks.py", "pygments.py", "dask/__init__.py", "dask/sizeof.py"):
        place.has("base", path.partition("/")[0].removesuffix(".py"), "1.0", {path: f"{READS}\n{source}\n"})
    place.has("next", "plugin", "1.0", {"plugin.py": "", "entry_points.txt": f"[{group}]\nnew = plugin:new\n"})
    told = LOOKED_UP.format(reader, group) if restarts else "live"
    assert place.run(TAKE, {"plugin": "1.0"}, reader) == told


def test_plugins_that_stay_the_same_mean_no_restart(tmp_path: Path) -> None:
    """A new version of a distribution with the entry points of the old one is taken live; one without them is not."""
    place = Place(tmp_path)
    points = {"plugin.py": "", "entry_points.txt": "[looks.plugins]\nnew = plugin:new\n"}
    place.has("base", "looks", "1.0", {"looks.py": ""})
    place.has("base", "plugin", "1.0", points)
    place.has("next", "plugin", "2.0", points)
    assert place.run(TAKE, {"plugin": "2.0"}, "looks") == "live"
    place.has("next", "plugin", "2.0", {"plugin.py": "", "entry_points.txt": "[other.plugins]\nnot parsed"})
    assert place.run(TAKE, {"plugin": "2.0"}, "looks") == LOOKED_UP.format("looks", "looks.plugins")


BELOW = "data has files below sys.prefix, as {}: only a process that starts in the environment finds the new ones"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({}, {"../../../share/data/table.csv": "1"}, "share/data/table.csv"),
        ({"../../../etc/data.conf": "1"}, {}, "etc/data.conf"),
        ({"../../../lib/libdata.so": "1"}, {"../../../lib/libdata.so": "2"}, "lib/libdata.so"),
        ({"../../../share/data.csv": "1"}, {"../../../share/data.csv": "1"}, ""),
        ({}, {"../../../share/man/man1/data.1": "1", "../../../bin/data": "1", "../../../include/data.h": "1"}, ""),
        ({}, {"data/table.csv": "1"}, ""),
    ],
)
def test_data_below_the_prefix_mean_a_restart(
    tmp_path: Path, old: dict[str, str], new: dict[str, str], told: str
) -> None:
    """What a package finds through `sys.prefix` is found only by a process whose prefix is the layer."""
    place = Place(tmp_path)
    place.has("base", "data", "1.0", {"data/__init__.py": "", **old})
    place.has("next", "data", "2.0", {"data/__init__.py": "", **new})
    assert place.run(TAKE, {"data": "2.0"}) == (BELOW.format(told) if told else "live")
