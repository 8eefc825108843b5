"""What somebody installs in a process that runs in a layer lands in the process's own environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters import SOURCE, Venv, base_python, environment_with, surroundings, uv
from package_index import Index, serving
from uv import find_uv_bin

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.installers.programs import run
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.layer import Base, Layer, layer_to_wire
from dask_pkgsync.layers.publication import changes_in
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.process.own_environment import DIRECTORY
from dask_pkgsync.scanning.installed import scan_installed

if TYPE_CHECKING:
    from collections.abc import Iterator

WAYS = {
    "hand-one": ["{python}", "-m", "pip", "install"],
    "hand-two": ["pip", "install"],
    "hand-three": ["pip3", "install"],
    "hand-four": ["{uv}", "--no-config", "pip", "install", "--python", "{python}"],
    "hand-five": ["{uv}", "--no-config", "pip", "install"],
}
"""What is installed, by the commands that people know; ``{python}`` is `sys.executable`."""

PROCESS = """
import importlib, json, os, subprocess, sys
sys.path[:] = [entry for entry in sys.path if entry != sys.argv[1]] + [sys.argv[1]]
from pathlib import Path
from dask_pkgsync.layers.layer import layer_from_wire
from dask_pkgsync.process import activation
from dask_pkgsync.process.imports import base_path

layer, place, ways, uv, url = json.loads(sys.argv[2])
def state():
    return list(sys.path), sys.executable, os.environ["PATH"], os.environ.get("VIRTUAL_ENV")
before = state()
activation.activate(layer_from_wire(layer), Path(place))
failed = []
for package, command in ways.items():
    argv = [part.format(python=sys.executable, uv=uv) for part in command]
    done = subprocess.run([*argv, "--index-url", url, package, "six==1.16.0"], capture_output=True, text=True)
    failed += [done.stderr] if done.returncode else []
importlib.invalidate_caches()
names = [name.replace("-", "_") for name in ways] + ["six", "inflection"]
imported = {name: importlib.import_module(name).__file__ for name in names}
code = "import json, importlib, sys; print(json.dumps([importlib.import_module(n).__file__ for n in sys.argv[1:]]))"
child = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True)
base = base_path()
activation.deactivate()
print(json.dumps({
    "failed": failed, "imported": imported, "child": child.stdout and json.loads(child.stdout), "said": child.stderr,
    "restored": state() == before, "base": base == before[0],
}))
"""


def make_base(root: Path, *packages: str) -> Base:
    """Make a base with these packages, and with what our own code needs."""
    venv = Venv(root / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, "packaging", "locket", "psutil", *packages])
    site_packages = next(venv.root.glob("lib/python*/site-packages"))
    return Base(Path(venv.python), (site_packages,), scan_installed([str(site_packages)]))


def make_layer(base: Base, root: Path, **versions: str) -> Layer:
    """Build a layer that gives a base these versions."""
    cache = open_cache(str(root))
    plan = make_plan(base.environment, environment_with(base.environment, versions))
    return build(plan, base, cache, lambda: Uv(Path(find_uv_bin()), base.python, cache.uv), timeout=300)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Return a base with pip and two small packages."""
    return make_base(tmp_path_factory.mktemp("base"), "pip", "six==1.15.0", "inflection==0.5.1")


@pytest.fixture(scope="module")
def layer(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Layer:
    """Return a layer in front of the base, with another version of one of its packages."""
    return make_layer(base, tmp_path_factory.mktemp("cache"), six="1.17.0")


@pytest.fixture
def index() -> Iterator[Index]:
    """Serve what is installed by hand, and another version of what the layer has."""
    found = Index()
    for package in WAYS:
        found.add(package, "1.0")
    found.add("six", "1.16.0")
    with serving(found):
        yield found


def put_behind(base: Base, layer: Layer, place: Path) -> None:
    """Make an own environment behind a layer, as a process in the base does."""
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from dask_pkgsync.layers.layer import layer_from_wire\n"
        "from dask_pkgsync.process.own_environment import own_environment\n"
        "own_environment(Path(sys.argv[2])).put_behind(layer_from_wire(json.loads(sys.argv[1])))\n"
    )
    argv = [str(base.python), "-c", code, json.dumps(layer_to_wire(layer)), str(place)]
    made = run(argv, timeout=60, env=surroundings(PYTHONPATH=str(SOURCE)), cwd=place)
    assert made.returncode == 0, made.stderr


def test_every_way_to_install_leads_into_the_own_environment(
    base: Base, layer: Layer, index: Index, tmp_path: Path
) -> None:
    """It reaches neither layer nor base, also as root, hides nothing of either, and is gone after deactivation."""
    given = json.dumps([layer_to_wire(layer), str(tmp_path), WAYS, find_uv_bin(), index.url])
    before = Venv(base.python.parents[1]).listing()
    finished = run(
        [str(base.python), "-c", PROCESS, str(SOURCE), given],
        timeout=120,
        env=surroundings(PYTHONPATH=str(SOURCE), VIRTUAL_ENV=str(tmp_path / "activated-by-the-operator")),
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["failed"] == []
    by_hand = {name.replace("-", "_") for name in WAYS}
    assert {name for name, file in found["imported"].items() if file.startswith(str(tmp_path))} == by_hand
    assert found["imported"]["six"].startswith(str(layer.root))
    assert found["imported"]["inflection"].startswith(str(base.site_packages[0]))
    assert found["child"] == list(found["imported"].values()), found["said"]
    assert found["restored"]
    assert found["base"], "the own environment counts as a part of the base"
    assert not changes_in(layer)
    assert Venv(base.python.parents[1]).listing() == before


def test_without_pip_people_read_what_to_do_instead(tmp_path: Path) -> None:
    """Where neither layer nor base has pip, what stands for it says how packages come to all workers."""
    bare = make_base(tmp_path / "base")
    layer = make_layer(bare, tmp_path / "cache", tabulate="0.9.0")
    put_behind(bare, layer, tmp_path)
    programs = tmp_path / DIRECTORY / "bin"
    for command in ([str(programs / "python"), "-m", "pip"], [str(programs / "pip")]):
        finished = run([*command, "install", "x"], timeout=60, env=surroundings(), cwd=tmp_path)
        assert finished.returncode == 1
        assert "sync(client, extra=['name'])" in finished.stderr
    assert not scan_installed([str(next((tmp_path / DIRECTORY).glob("lib/python*/site-packages")))]).distributions


def test_uninstalling_there_takes_nothing_from_layer_or_base(base: Base, layer: Layer, tmp_path: Path) -> None:
    """In the own environment, pip does not remove what lies outside of it."""
    put_behind(base, layer, tmp_path)
    argv = [str(tmp_path / DIRECTORY / "bin" / "python"), "-m", "pip", "uninstall", "--yes", "six", "inflection"]
    finished = run(argv, timeout=60, env=surroundings(), cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert not changes_in(layer)
    assert (base.site_packages[0] / "inflection.py").exists() or (base.site_packages[0] / "inflection").exists()
