"""Layers are built aside, verified, published by one rename, and put in front of a base."""

from __future__ import annotations

import importlib.machinery
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusters import SOURCE, Venv, base_python, environment_with, surroundings, uv
from installed_packages import write_package
from package_index import Index, serving
from uv import find_uv_bin

from dask_pkgsync import LayerError
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.cache.marker import MARKER
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.clashes import clashes
from dask_pkgsync.layers.fill import Sources
from dask_pkgsync.layers.layer import (
    BASE_LINK,
    Base,
    Layer,
    base_at,
    layer_digest,
    layer_from_wire,
    layer_to_wire,
    other_builds_in,
)
from dask_pkgsync.layers.leaks import find_leak
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.origin import FromModules
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.indexes import Indexes
from dask_pkgsync.model.plan import Install, Keep, Plan, make_plan
from dask_pkgsync.model.reports.sync import NodeReport, report_from_wire, report_to_wire
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.records import dist_infos, installed, listed, module_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_pkgsync.cache.directory import Cache


LIB = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def site_packages(venv: Venv) -> Path:
    """Return where a virtual environment has its distributions."""
    return next(venv.root.glob("lib/python*/site-packages"))


def base_of(venv: Venv) -> Base:
    """Return a virtual environment as a base."""
    site = site_packages(venv)
    return Base(Path(venv.python), (site,), scan_installed([str(site)]))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return an empty cache."""
    return open_cache(str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """Return a small base."""
    venv = Venv(tmp_path_factory.mktemp("small") / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(
        [
            "pip",
            "install",
            "--python",
            venv.python,
            "six==1.15.0",
            "jaraco.context==5.3.0",
            "packaging",
            "locket",
            "psutil",
        ]
    )
    return venv


def real(base: Base, cache: Cache) -> Uv:
    """Return the installer that nodes usually have, with the cache of uv that all tests share."""
    del cache
    return Uv(
        Path(find_uv_bin()), base.python, Path(os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv")))
    )


def make(base: Base, cache: Cache, installer: object = None, **versions: str | None) -> Layer:
    """Build the layer for a target that differs from the base in these."""
    target = environment_with(base.environment, {name.replace("_", "-"): value for name, value in versions.items()})
    plan = make_plan(base.environment, target)
    return build(plan, base, cache, lambda: installer or real(base, cache), timeout=300)  # type: ignore[arg-type,return-value]


def say(layer: Layer, code: str) -> str:
    """Run code in a layer's interpreter."""
    argv = [str(layer.python), "-c", code]
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=surroundings()).stdout.strip()


def test_what_uv_has_in_its_cache_is_installed_without_asking_an_index(small: Venv, tmp_path: Path) -> None:
    """If it is the client's build by its content; else the index is asked, which may have that build by now."""
    base, installer = base_of(small), Uv(Path(find_uv_bin()), base_of(small).python, tmp_path / "uv")

    def built(content: str) -> Layer:
        cache = open_cache(str(tmp_path / f"cache-{len(list(tmp_path.iterdir()))}"))
        plan = Plan((Install("sample", "1.0", content=content),))
        sources = Sources(indexes=Indexes(index.url))
        return build(plan, base, cache, lambda: installer, timeout=300, sources=sources)

    with serving(Index()) as index:
        index.add("sample", "1.0")
        first = listed(built("").site_packages)["sample"].content
        assert any(path.endswith(".whl") for path in index.served)
        index.served.clear()
        assert listed(built(first).site_packages)["sample"].content == first
        assert not index.served
        index.add("sample", "1.0", payload=10)
        with pytest.raises(LayerError, match="the index has other builds of sample"):
            built("0" * 64)
        assert any(path.endswith(".whl") for path in index.served)


def test_a_delta_goes_in_front_of_the_base(small: Venv, cache: Cache) -> None:
    """In a delta's interpreter the layer comes first, then the base; scripts work after the rename; namespaces join."""
    (small.root / "share").mkdir(exist_ok=True)
    (small.root / "share" / "of-the-base.txt").write_text("found")
    before = small.listing()
    layer = make(base_of(small), cache, six="1.17.0", tabulate="0.9.0", jaraco_classes="3.4.0")
    assert not layer.complete
    assert layer.fetched > 10_000
    assert say(layer, "import six; print(six.__version__)") == "1.17.0"
    assert say(layer, "import jaraco.context, jaraco.classes.properties as p; print(p.__name__)")
    assert say(layer, "import importlib.metadata as m; print(m.version('six'))") == "1.17.0"
    assert say(layer, "import sys; print(open(sys.prefix + '/share/of-the-base.txt').read())") == "found"
    script = subprocess.run([layer.bin / "tabulate"], input="a b", capture_output=True, text=True, check=True)
    assert "a  b" in script.stdout
    assert not list(cache.building.iterdir())
    assert small.listing() == before


def test_the_same_layer_is_not_built_again(small: Venv, cache: Cache) -> None:
    """A layer that is there is used without asking for an installer, and counts as used now."""
    first = make(base_of(small), cache, six="1.17.0")
    os.utime(first.root / MARKER, (1, 1))

    class NeverAsked:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    again = make(base_of(small), cache, NeverAsked(), six="1.17.0")
    assert again.reused
    assert again.fetched == 0
    assert again.root == first.root
    assert (first.root / MARKER).stat().st_mtime > 1


def test_the_digest_is_of_all_that_decides(small: Venv) -> None:
    """Other pins, another base or another kind is another layer; a complete one does not depend on the base."""
    base = base_of(small)
    plan = make_plan(base.environment, environment_with(base.environment, {"six": "1.17.0"}))
    other = make_plan(base.environment, environment_with(base.environment, {"six": "1.16.0"}))
    changed = Base(base.python, base.site_packages, environment_with(base.environment, {"packaging": "24.0"}))
    digests = [layer_digest(plan, base), layer_digest(other, base), layer_digest(plan, changed)]
    digests.append(layer_digest(plan.completed(), base))
    assert len(set(digests)) == 4
    assert layer_digest(plan.completed(), base) == layer_digest(plan.completed(), changed)


class InstallerKilledHalfway:
    """Leaves what uv leaves when it is killed while it links: a dist-info without INSTALLER, files missing."""

    name = "killed"

    def __init__(self, inner: Uv) -> None:
        self.inner = inner

    def install(self, environment: Path, pins: Sequence[str], *, final: Path, timeout: float, **rest: Any) -> None:
        self.inner.install(environment, pins, final=final, timeout=timeout)
        site = next(environment.glob("lib/python*/site-packages"))
        (site / "six.py").unlink()

    def install_cached(self, environment: Path, requirements: Sequence[str], **rest: Any) -> bool:
        raise NotImplementedError

    def forget(self, names: Sequence[str], *, work: Path, timeout: float) -> None:
        assert names == ["six"]

    def resolve(self, requirements: Sequence[str], constraints: Sequence[str], *, timeout: float) -> tuple[str, ...]:
        raise NotImplementedError


def test_a_half_installed_layer_is_never_published(small: Venv, cache: Cache) -> None:
    """What does not hold against RECORD is removed, told by package and file, and the next build is sound."""
    base = base_of(small)
    with pytest.raises(LayerError, match=r"six==1\.17\.0: six\.py is missing") as caught:
        make(base, cache, InstallerKilledHalfway(real(base, cache)), six="1.17.0")
    assert caught.value.step == "verify"
    assert caught.value.packages == ("six==1.17.0",)
    assert not list(cache.layers.iterdir())
    assert not list(cache.building.iterdir())
    assert make(base, cache, six="1.17.0").root.exists()


def test_a_full_disk_is_a_clear_error(small: Venv, cache: Cache) -> None:
    """A failure of the file system itself is told with advice, and leaves nothing."""

    class DiskFullWhilePublishing(InstallerKilledHalfway):
        def install(self, environment: Path, pins: Sequence[str], *, final: Path, timeout: float, **rest: Any) -> None:
            raise OSError(28, "No space left on device", str(environment))

    base = base_of(small)
    with pytest.raises(LayerError, match="No space left on device"):
        make(base, cache, DiskFullWhilePublishing(real(base, cache)), six="1.17.0")
    assert not list(cache.building.iterdir())


BUILD = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_build import base_of, make
from clusters import Venv
from dask_pkgsync.cache.directory import open_cache
layer = make(base_of(Venv(Path(sys.argv[1]))), open_cache(sys.argv[2]), six="1.17.0")
print(layer.reused)
"""


def test_four_processes_build_one_layer_once(small: Venv, cache: Cache) -> None:
    """Processes that want the same layer at once wait for the one that builds it."""
    argv = [
        sys.executable,
        "-c",
        BUILD,
        str(small.root),
        str(cache.root),
        str(SOURCE),
        str(Path(__file__).parents[1]),
        str(Path(__file__).parent),
    ]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = sorted(process.communicate(timeout=120)[0].strip() for process in running)
    assert said == ["False", "True", "True", "True"]
    assert len(list(cache.layers.iterdir())) == 1


class InstallsByHand(InstallerKilledHalfway):
    """Installs packages that no index has."""

    files: dict[str, dict[str, str]]

    def install(self, environment: Path, pins: Sequence[str], *, final: Path, timeout: float, **rest: Any) -> None:
        site = next(environment.glob("lib/python*/site-packages"))
        for pin in pins:
            name = pin.partition("==")[0]
            write_package(site, name, **self.files[name])


@pytest.mark.parametrize(
    ("in_base", "in_layer"),
    [
        ({"shared/__init__.py": "", "shared/base.py": ""}, {"shared/layer.py": ""}),
        ({"shared/base.py": ""}, {"shared/__init__.py": "", "shared/layer.py": ""}),
    ],
)
def test_a_delta_that_would_leak_becomes_complete(
    tmp_path: Path, cache: Cache, in_base: dict[str, str], in_layer: dict[str, str]
) -> None:
    """Where a package is partly in the base and partly in the layer, and not a namespace in both, all goes into one."""
    venv = Venv(tmp_path / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    write_package(site_packages(venv), "one", **in_base)
    base = base_of(venv)
    installer = InstallsByHand(real(base, cache))
    installer.files = {"one": in_base, "two": in_layer}
    layer = make(base, cache, installer, two="1.0")
    assert layer.complete
    assert "shared" in layer.notes[0]
    assert not (layer.site_packages / BASE_LINK).exists()
    assert say(layer, "import shared.base, shared.layer; print('both')") == "both"
    again = make(base, cache, installer, two="1.0")
    assert again.notes == layer.notes
    assert again.root == layer.root


def test_a_loose_module_hides_what_only_the_base_has(tmp_path: Path) -> None:
    """As on the client, where it comes first; what the client has as well has to be beside it, to be seen."""
    base_site, layer_site = tmp_path / "base", tmp_path / "layer" / "lib" / LIB / "site-packages"
    write_package(base_site, "other", **{"helpers/__init__.py": "", "plain.py": ""})
    write_package(layer_site, "module-helpers", **{"helpers/__init__.py": "", "helpers/mine.py": ""})
    base = Base(Path(sys.executable), (base_site,), scan_installed([str(base_site)]))
    loose = Distribution("module-helpers", "1.0", FromModules("file:///x", "source=1"))
    plan = Plan((Install("module-helpers", "1.0", "source=1"), Keep("other", "1.0")))
    assert find_leak(listed(layer_site), plan, base, {"module-helpers": loose}) is None
    there = {"module-helpers": loose, "other": Distribution("other", "1.0")}
    assert "helpers is partly in the layer" in str(find_leak(listed(layer_site), plan, base, there))
    assert "helpers is partly" in str(
        find_leak(listed(layer_site), plan, base, {"module-helpers": Distribution("x", "1.0")})
    )
    (layer_site / "helpers" / "__init__.py").unlink()
    write_package(layer_site, "module-helpers", **{"helpers/mine.py": ""})  # a namespace, behind the base's package
    assert "helpers is partly" in str(find_leak(listed(layer_site), plan, base, {"module-helpers": loose}))
    write_package(layer_site, "module-helpers", **{"plain.py": "mine"})
    assert "plain is partly" in str(find_leak(listed(layer_site), plan, base, there))


@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        ({"shared.py": "x = 1"}, {"shared.py": "x = 22"}, "differ in shared.py, and"),
        ({"pkg/a.py": "1", "pkg/b.py": "1"}, {"pkg/a.py": "2", "pkg/b.py": "2"}, "pkg/a.py (and 1 more file), and"),
        (
            {"shared.py": "x = 1"},
            {"shared/__init__.py": "", "shared/more.py": ""},
            "shared/__init__.py (and 1 more file)",
        ),
        ({"shared/inner.py": ""}, {"shared.py": ""}, "differ in shared.py, and"),
        ({"same.py": "x"}, {"same.py": "x"}, ""),
        ({"space/one.py": "x"}, {"space/two.py": "x"}, ""),
        ({"tests/__init__.py": "1", "LICENSE": "1"}, {"tests/__init__.py": "2", "LICENSE": "2"}, ""),
        ({"both.py": "", "both/__init__.py": ""}, {"both/__init__.py": ""}, "differ in both/__init__.py, and"),
        ({"h.py": "x"}, {f"h{importlib.machinery.EXTENSION_SUFFIXES[0]}": "y"}, "differ in h."),
        ({"ns/h.py": "x"}, {"ns/h/__init__.py": "", "ns/h/y.py": ""}, "differ in ns/h/__init__.py"),
        ({"ns/h/y.py": ""}, {"ns/h.py": "x"}, "differ in ns/h.py"),
        ({"pkg/table.csv": "1"}, {"pkg/table.csv": "2"}, "differ in pkg/table.csv"),
    ],
)
def test_two_with_other_code_under_one_name_are_told(
    tmp_path: Path, small: Venv, cache: Cache, one: dict[str, str], two: dict[str, str], told: str
) -> None:
    """A layer holds only one of two files; so it notes what is not there, also when it is used again."""
    installer = InstallsByHand(real(base_of(small), cache))
    installer.files = {"one": one, "two": two}
    layer = make(base_of(small), cache, installer, one="1.0", two="1.0")
    again = make(base_of(small), cache, installer, one="1.0", two="1.0")
    assert again.reused
    assert again.clashes == layer.clashes
    assert again.notes == layer.notes == tuple(map(str, layer.clashes))
    assert [(clash.one, clash.other) for clash in layer.clashes] == ([("one", "two")] if told else [])
    assert all(told in note for note in layer.notes)
    report = NodeReport("tcp://x:1", "nanny", clashes=layer.clashes)
    assert report_from_wire(report_to_wire(report)) == report


def test_of_loose_modules_nothing_is_there_by_accident(tmp_path: Path) -> None:
    """Distributions leave their tests at the top, and nobody imports them; beside a script somebody may."""
    write_package(tmp_path / "a", "module-tests", **{"tests/__init__.py": "1"})
    write_package(tmp_path / "b", "other", **{"tests/__init__.py": "2"})
    both = {**listed(tmp_path / "a"), **listed(tmp_path / "b")}
    assert clashes(both) == ()
    (clash,) = clashes(both, loose={"module-tests"})
    assert (clash.one, clash.other, clash.path) == ("module-tests", "other", "tests/__init__.py")


def test_a_namespace_that_both_have_a_file_in_is_no_delta(tmp_path: Path) -> None:
    """What the base keeps would get the layer's file of the same name, which comes first."""
    base_site, layer_site = tmp_path / "base", tmp_path / "layer" / "lib" / LIB / "site-packages"
    write_package(base_site, "kept", **{"ns/helpers.py": "x = 1", "ns/kept.py": ""})
    write_package(layer_site, "new", **{"ns/new.py": ""})
    base = Base(Path(sys.executable), (base_site,), scan_installed([str(base_site)]))
    plan = Plan((Install("new", "1.0"), Keep("kept", "1.0")))
    target = {name: Distribution(name, "1.0") for name in ("new", "kept")}
    assert find_leak(listed(layer_site), plan, base, target) is None
    write_package(layer_site, "new", **{"ns/new.py": "", "ns/helpers.py": "x = 2"})
    assert find_leak(listed(layer_site), plan, base, target) == "ns/helpers.py is both in the layer and in the base"
    assert (
        find_leak(listed(layer_site), plan, base, {"new": target["new"]}) is None
    )  # nobody wants what only the base has


def test_an_editable_in_the_base_makes_the_layer_complete(tmp_path: Path, cache: Cache) -> None:
    """A replaced distribution that is editable in the base could put itself in front: nothing of the base is used."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "six"\nversion = "0.1"\n[tool.hatch.build.targets.wheel]\ninclude = ["six.py"]\n'
    )
    (source / "six.py").write_text("__version__ = '0.1'\n")
    venv = Venv(tmp_path / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, "-e", str(source)])
    layer = make(base_of(venv), cache, six="1.17.0")
    assert layer.complete
    assert "editable" in layer.notes[0]
    assert say(layer, "import six; print(six.__version__)") == "1.17.0"


def test_a_layer_somebody_meddled_with_is_built_anew(small: Venv, cache: Cache) -> None:
    """A layer without its marker does not count, and its place is taken."""
    first = make(base_of(small), cache, six="1.17.0")
    (first.root / MARKER).write_text("{")
    again = make(base_of(small), cache, six="1.17.0")
    assert not again.reused
    assert json.loads((again.root / MARKER).read_text())["pins"] == ["six==1.17.0"]


def test_a_layer_crosses_the_wire(small: Venv) -> None:
    """A layer is the same at the other end, and a path that is none of a layer is refused."""
    layer = Layer("d" * 64, Path("/cache/layers") / ("d" * 64), False, ("six==1",))
    assert layer_from_wire(layer_to_wire(layer)) == layer
    with pytest.raises(MessageError):
        layer_from_wire(["d" * 64, "/etc", False, []])
    with pytest.raises(MessageError):
        layer_from_wire(["d", "d", False, []])


def test_the_base_of_this_process_is_what_it_imports_from() -> None:
    """The directories of the base are those of the search path that hold distributions."""
    base = base_at(Path(sys.executable), sys.path, scan_installed())
    assert str(base.python) == sys.executable
    assert all(dist_infos(place) for place in base.site_packages)


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("six.py", "six"),
        ("numpy/__init__.py", "numpy"),
        ("numpy/core/a.cpython-311-x86_64-linux-gnu.so", "numpy.core.a"),
        ("a/b.pyd", "a.b"),
        ("a/data.json", None),
        ("a/__pycache__/b.cpython-311.pyc", None),
        ("../../bin/tool.py", None),
        ("six-1.0.dist-info/x.py", None),
        ("numpy.libs/libx.so", None),
    ],
)
def test_modules_are_told_by_their_files(path: str, module: str | None) -> None:
    """Source and extension files are modules; data, bytecode, scripts and libraries are none."""
    assert module_name(path) == module


def test_the_first_on_the_path_counts(tmp_path: Path) -> None:
    """Of a distribution that is there twice the first directory's is found."""
    for place in ("one", "two"):
        write_package(tmp_path / place, "six", **{"six.py": ""})
    found = installed([tmp_path / "one", tmp_path / "two", tmp_path / "missing"])
    assert found == {"six": tmp_path / "one" / "six-1.0.dist-info"}


ACTIVATION = """
import json, os, sys
sys.path.append(sys.argv[1])
from pathlib import Path
from dask_pkgsync.model.target import Target
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.process import activation, imports
from dask_pkgsync.process.live_change import live_change
from dask_pkgsync.layers.layer import Layer
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.installed import scan_installed
layer = Layer("x", Path(sys.argv[2]), False, ())
base = scan_installed()
changes = {"six": "1.17.0", "tabulate": "0.9.0"}
there = [d for d in base.distributions.values() if d.name not in changes]
wanted = Environment.of(base.interpreter, [Distribution(n, v) for n, v in changes.items()] + there)
target = Target(wanted, Policy())
before = list(sys.path), sys.executable, os.environ["PATH"]
said = {}
said["lacking"] = sorted(s.name for s in imports.remaining(target).changes)
said["why before"] = live_change(layer, target).why_restart()
activation.activate(layer)
said["lacking live"] = [s.name for s in imports.remaining(target).changes]
import six, tabulate
said["six"] = six.__version__
said["order"] = [p.startswith(sys.argv[2]) for p in sys.path].index(True) > max(
    i for i, p in enumerate(sys.path) if p.endswith("lib-dynload"))
said["child"] = os.popen(f"{sys.executable} -c 'import six; print(six.__version__)'").read().strip()
said["script"] = os.popen("echo a b | tabulate").read().split("\\n")[1]
said["from layer"] = imports.loaded_from(this_process().layer)
activation.deactivate()
said["undone"] = before == (list(sys.path), sys.executable, os.environ["PATH"])
said["why after"] = live_change(None, Target(base, Policy())).why_restart()
said["complete"] = live_change(Layer("x", Path("/x"), True, ()), target).why_restart()
print(json.dumps(said))
"""


def test_a_layer_is_taken_live_and_given_back(small: Venv, cache: Cache) -> None:
    """Live, a layer goes behind the standard library and before the base; afterwards everything is as before."""
    layer = make(base_of(small), cache, six="1.17.0", tabulate="0.9.0")
    said = json.loads(small.run(ACTIVATION, str(SOURCE), str(layer.root)).stdout)
    assert said.pop("why before") is None
    assert "six" in said.pop("why after")
    assert "stands alone" in said.pop("complete")
    assert said == {
        "lacking": ["six", "tabulate"],
        "lacking live": [],
        "six": "1.17.0",
        "order": True,
        "child": "1.17.0",
        "script": "a  b",
        "from layer": ["six", "tabulate", "tabulate.version"],
        "undone": True,
    }


SPAWNING = """
import json, multiprocessing, sys
sys.path.append(sys.argv[1])
from pathlib import Path
from dask_pkgsync.process import spawning
from dask_pkgsync.layers.layer import Layer

def look():
    import six
    return six.__version__, sys.executable

def child():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(look)

if __name__ == "__main__":
    layer = Layer("x", Path(sys.argv[2]), False, ())
    path = spawning.path_in_layer(layer, ())
    said = [child()[0]]
    spawning.start_children_in("one", layer.python, path)
    spawning.start_children_in("two", layer.python, path)
    said.append(child()[0])
    said.append(child()[1] == str(layer.python))
    said.append(sys.argv[1] in path)
    said.append(spawning.start_children_here("one"))
    said.append(child()[0])
    said.append(spawning.start_children_here("two"))
    said.append(child()[0])
    print(json.dumps(said))
"""


def test_children_start_in_the_layer_until_nobody_wants_it(small: Venv, cache: Cache, tmp_path: Path) -> None:
    """Spawned children run in the layer, keep what was added to the path, and afterwards start as ever."""
    layer = make(base_of(small), cache, six="1.17.0")
    script = tmp_path / "script.py"
    script.write_text(SPAWNING)
    argv = [small.python, str(script), str(SOURCE), str(layer.root)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=surroundings(), timeout=120).stdout
    assert json.loads(said) == ["1.15.0", "1.17.0", True, True, False, "1.17.0", True, "1.15.0"]


def test_a_layer_tells_which_builds_it_has_in_place_of_the_clients(tmp_path: Path) -> None:
    """Its marker names them; without a layer, or with a damaged marker, there are none."""
    assert other_builds_in(tmp_path) == ()
    (tmp_path / MARKER).write_text("{")
    assert other_builds_in(tmp_path) == ()
    (tmp_path / MARKER).write_text('{"other-builds": ["torch"]}')
    assert other_builds_in(tmp_path) == ("torch",)
