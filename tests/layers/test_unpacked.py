"""What uv has unpacked in its cache is linked into layers, as uv would do it, and only if it is the wanted build."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters import base_python, surroundings, uv
from package_index import Index, serving
from uv import find_uv_bin

from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.cache.trees import Tree
from dask_pkgsync.cache.verified import VerifiedFiles
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.environment import make_environment
from dask_pkgsync.layers.fill import Sources
from dask_pkgsync.layers.layer import Base
from dask_pkgsync.layers.layout import SITE_PACKAGES
from dask_pkgsync.layers.linking import Linker, NotLinkedError
from dask_pkgsync.layers.unpacked import UnpackedWheel, find_unpacked, fits, read_unpacked
from dask_pkgsync.layers.verify import verify
from dask_pkgsync.model.indexes import Indexes
from dask_pkgsync.model.plan import Install, Plan
from dask_pkgsync.model.record import recorded
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.installed import scan_installed, this_interpreter
from dask_pkgsync.scanning.records import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dask_pkgsync.installers import Installer
    from dask_pkgsync.layers.layer import Layer

PACKAGES = ("six==1.16.0", "pyyaml==6.0.2", "pygments==2.18.0", "jaraco.context==5.3.0", "greenlet==3.1.1")
"""Pure and compiled, with scripts, headers, and a namespace package."""


@pytest.fixture(scope="module")
def by_uv(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a layer's environment that uv has filled, and the cache of uv."""
    root = tmp_path_factory.mktemp("uv")
    make_environment(root / "environment", Path(base_python()), this_interpreter())
    options = ["--cache-dir", str(root / "cache"), "--link-mode", "hardlink", "--no-deps"]
    uv(["pip", "install", *options, "--python", str(root / "environment" / "bin" / "python"), *PACKAGES])
    return root / "environment", root / "cache"


def contents(environment: Path) -> dict[str, str]:
    """Return the content digests in an environment."""
    return {name: one.content for name, one in listed(environment / SITE_PACKAGES).items()}


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and mode of each file, without bytecode."""
    found = [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode) for path in found}


def link(tmp_path: Path, cache: Path, wanted: Mapping[str, str]) -> tuple[Path, Linker]:
    """Link wheels into a new environment; return it."""
    environment = tmp_path / "linked"
    make_environment(environment, Path(base_python()), this_interpreter())
    linker = Linker(environment)
    for _, wheel in sorted(find_unpacked(cache, wanted).items()):
        assert fits(wheel)
        linker.install(wheel)
    return environment, linker


def test_what_is_linked_is_what_uv_installs(by_uv: tuple[Path, Path], tmp_path: Path) -> None:
    """The same files with the same modes, of which only scripts and RECORD differ; RECORD lists them all."""
    installed, cache = by_uv
    before = files(cache)
    environment, linker = link(tmp_path, cache, contents(installed))
    expected, found = files(installed), files(environment)
    assert {path for path in expected.keys() ^ found.keys() if not path.endswith(".lock")} == set()
    differing = {path for path in found if path in expected and found[path] != expected[path]}
    assert {path.rpartition("/")[2] for path in differing} <= {"RECORD", "pygmentize"}
    assert contents(environment) == contents(installed)
    tree = Tree(str(environment), linker.looked_at)
    pins = [package.replace("jaraco.", "jaraco-") for package in PACKAGES]
    verify(tree, SITE_PACKAGES, listed(environment / SITE_PACKAGES), pins, VerifiedFiles(open_cache(str(tmp_path))))
    here, there = (listed(place / SITE_PACKAGES) for place in (environment, installed))
    for name, one in here.items():
        assert {entry.path for entry in one.entries} == {entry.path for entry in there[name].entries}
    assert files(cache) == before


def test_only_what_is_made_for_the_environment_is_no_link(by_uv: tuple[Path, Path], tmp_path: Path) -> None:
    """So that nobody who writes to it writes into uv's cache."""
    environment, _ = link(tmp_path, by_uv[1], contents(by_uv[0]))
    alone = {path.name for path in environment.rglob("*") if path.is_file() and path.lstat().st_nlink == 1}
    made = {"RECORD", "INSTALLER", "REQUESTED", "pygmentize", "pyvenv.cfg"}
    assert made <= alone
    assert not {name for name in alone - made if not name.startswith("python")}


def test_scripts_run_wherever_the_environment_is_moved(by_uv: tuple[Path, Path], tmp_path: Path) -> None:
    """They find the interpreter beside themselves."""
    environment, _ = link(tmp_path, by_uv[1], contents(by_uv[0]))
    environment.rename(tmp_path / "moved")
    argv = [str(tmp_path / "moved" / "bin" / "pygmentize"), "-V"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=surroundings())
    assert "2.18.0" in done.stdout


def test_a_tree_of_what_was_linked_needs_no_second_look(by_uv: tuple[Path, Path], tmp_path: Path) -> None:
    """It has the same files and directories as one that looks at everything, and makes the same read-only."""
    environment, linker = link(tmp_path, by_uv[1], contents(by_uv[0]))
    (environment / SITE_PACKAGES / "more.pth").write_text("")
    known, looked = Tree(str(environment), linker.looked_at), Tree(str(environment))
    assert known.files == looked.files
    assert sorted(known.directories) == sorted(looked.directories)
    assert len(linker.looked_at) > 10
    known.make_read_only()
    writable = {path for path in environment.rglob("*") if path.is_dir() and not path.is_symlink()}
    assert {path.name for path in writable if path.stat().st_mode & 0o222} == {"__pycache__"}


def test_another_build_is_not_found(by_uv: tuple[Path, Path]) -> None:
    """The content digest decides, not the version."""
    assert find_unpacked(by_uv[1], {"six": "0" * 64, "numpy": "0" * 64}) == {}
    assert find_unpacked(by_uv[1] / "nowhere", contents(by_uv[0])) == {}


def unpacked(cache: Path, name: str, more: Mapping[str, str] | None = None, tag: str = "py3-none-any") -> Path:
    """Write an unpacked wheel; return its directory."""
    root, info = cache / "archive-v0" / name, f"{name}-1.0.dist-info"
    text = {f"{name}.py": "", f"{info}/METADATA": "", f"{info}/WHEEL": f"Tag: {tag}\n", **(more or {})}
    for path, content in text.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    lines = "".join(f"{recorded(path, content.encode())}\n" for path, content in text.items())
    (root / info / "RECORD").write_text(f"{lines}{info}/RECORD,,\n")
    return root


def content_in(cache: Path, name: str) -> str:
    """Return the content digest of an unpacked wheel without data."""
    return listed(cache / "archive-v0" / name)[name].content


def test_data_and_scripts_of_a_wheel_get_their_places(tmp_path: Path) -> None:
    """As PEP 427 has it: data below the prefix, scripts in bin with the interpreter's line, modules with the others."""
    data = "one-1.0.data"
    more = {
        f"{data}/data/share/one/data.txt": "data",
        f"{data}/purelib/pure.py": "value = 5",
        f"{data}/scripts/say": "#!python\nimport pure; print(pure.value)\n",
    }
    unpacked(tmp_path, "one", more)
    found = {wheel.stem: wheel for wheel in map_all(tmp_path)}
    environment = tmp_path / "environment"
    make_environment(environment, Path(base_python()), this_interpreter())
    one = Linker(environment).install(found["one-1.0"])
    assert (environment / "share" / "one" / "data.txt").read_text() == "data"
    done = subprocess.run([str(environment / "bin" / "say")], capture_output=True, text=True, check=True)
    assert done.stdout == "5\n"
    verify(Tree(str(environment)), SITE_PACKAGES, {"one": one}, ["one==1.0"], VerifiedFiles(open_cache(str(tmp_path))))
    assert {entry.path for entry in one.entries} >= {"../../../share/one/data.txt", "../../../bin/say", "pure.py"}
    assert one.content == listed(environment / SITE_PACKAGES)["one"].content


def map_all(cache: Path) -> Iterator[UnpackedWheel]:
    """Yield every unpacked wheel, whatever its content."""
    for root in (cache / "archive-v0").iterdir():
        yield read_unpacked(str(root), f"{root.name}-1.0")


@pytest.mark.parametrize(
    "more",
    [
        {"one-1.0.dist-info/entry_points.txt": "[console_scripts]\npython = one:main\n"},
        {"one-1.0.dist-info/entry_points.txt": "[console_scripts]\n../say = one:main\n"},
        {"one-1.0.dist-info/entry_points.txt": "[console_scripts]\nsay = one; import os\n"},
        {"one-1.0.dist-info/entry_points.txt": "no section\n"},
        {"one-1.0.data/scripts/say": "#!python -O\n"},
        {"one-1.0.data/scripts/say": "#!pythonw\n"},
        {"one-1.0.data/scripts/say": "not executable"},
        {"one-1.0.data/elsewhere/file": ""},
    ],
)
def test_what_is_unusual_is_left_to_the_installer(tmp_path: Path, more: Mapping[str, str]) -> None:
    """Nothing is guessed, and no script takes the interpreter's place."""
    unpacked(tmp_path, "one", more)
    environment = tmp_path / "environment"
    make_environment(environment, Path(base_python()), this_interpreter())
    before = (environment / "bin" / "python").readlink()
    (wheel,) = map_all(tmp_path)
    with pytest.raises(NotLinkedError):
        Linker(environment).install(wheel)
    assert (environment / "bin" / "python").readlink() == before


def test_links_in_an_unpacked_wheel_are_not_followed(tmp_path: Path) -> None:
    """No wheel holds any."""
    (unpacked(tmp_path, "one") / "link").symlink_to("/etc")
    (wheel,) = map_all(tmp_path)
    with pytest.raises(NotLinkedError):
        Linker(tmp_path / "environment").install(wheel)


def test_wheels_of_other_pythons_do_not_fit(tmp_path: Path) -> None:
    """Several versions of Python share one cache of uv."""
    unpacked(tmp_path, "one", tag="cp38-cp38-manylinux_2_17_x86_64")
    unpacked(tmp_path, "two")
    assert {wheel.stem: fits(wheel) for wheel in map_all(tmp_path)} == {"one-1.0": False, "two-1.0": True}


def test_of_two_files_in_one_place_the_later_one_counts(tmp_path: Path) -> None:
    """And neither wheel in uv's cache changes."""
    for name in ("one", "two"):
        unpacked(tmp_path, name, {"shared/same.py": name})
    environment, linker = link(tmp_path, tmp_path, {name: content_in(tmp_path, name) for name in ("one", "two")})
    assert (environment / SITE_PACKAGES / "shared" / "same.py").read_text() == "two"
    assert [(tmp_path / "archive-v0" / name / "shared" / "same.py").read_text() for name in ("one", "two")] == [
        "one",
        "two",
    ]
    assert Tree(str(environment), linker.looked_at).files == Tree(str(environment)).files


# -- whole layers -----------------------------------------------------------------------------------------------------


class Node:
    """A node with an empty base, an index, and a cache."""

    def __init__(self, root: Path, index: Index) -> None:
        self.cache: Cache = open_cache(str(root / "cache"))
        self.base = Base(Path(base_python()), (), scan_installed([str(root)]))
        self.sources = Sources(indexes=Indexes(index.url))
        self.calls = 0

    def build(self, *steps: Install) -> Layer:
        """Build a layer; count how often an installer is needed."""
        return build(
            Plan(steps, complete=True), self.base, self.cache, self._installer, timeout=60, sources=self.sources
        )

    def _installer(self) -> Installer:
        self.calls += 1
        return Uv(Path(find_uv_bin()), self.base.python, self.cache.uv)

    def content(self, layer: Layer, name: str) -> str:
        """Return the content digest of a distribution in a layer."""
        return listed(layer.site_packages)[name].content


@pytest.fixture
def index() -> Iterator[Index]:
    """Return an index with two distributions."""
    with serving(Index()) as index:
        for name in ("one", "two"):
            index.add(name, "1.0")
        yield index


def test_a_layer_of_what_the_host_has_needs_no_installer(tmp_path: Path, index: Index) -> None:
    """If the client's content digests are known; what is not known is installed beside it."""
    node = Node(tmp_path, index)
    first = node.build(Install("one", "1.0"))
    assert node.calls == 1
    one = Install("one", "1.0", content=node.content(first, "one"))
    second = node.build(one)
    assert (second.digest == first.digest, node.calls) == (False, 1)
    third = node.build(one, Install("two", "1.0"))
    assert node.calls == 2
    assert node.content(third, "one") == one.content
    fourth = node.build(one, Install("two", "1.0", content=node.content(third, "two")))
    assert node.calls == 2
    argv = [str(fourth.python), "-c", "import one, two; print(one.__version__, two.__version__)"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True, env=surroundings()).stdout == "1.0 1.0\n"


def test_a_file_that_was_damaged_in_the_cache_is_found(tmp_path: Path, index: Index) -> None:
    """Every byte is verified; then uv forgets the wheel, and fetches it again."""
    node = Node(tmp_path, index)
    content = node.content(node.build(Install("one", "1.0")), "one")
    (damaged,) = node.cache.uv.glob("archive-v*/*/one.py")
    damaged.write_text(damaged.read_text().replace("1.0", "6.6"))
    layer = node.build(Install("one", "1.0", content=content))
    assert "1.0" in (layer.site_packages / "one.py").read_text()
    assert node.content(layer, "one") == content
    assert node.calls > 1


def test_what_cannot_be_linked_is_installed(tmp_path: Path, index: Index) -> None:
    """The layer has nothing of what was begun."""
    node = Node(tmp_path, index)
    index.add(
        "three", "1.0", more={"three-1.0.dist-info/entry_points.txt": "[console_scripts]\nsay3 = three:main [x]\n"}
    )
    content = node.content(node.build(Install("three", "1.0")), "three")
    (archive,) = (path.parent for path in node.cache.uv.glob("archive-v*/*/three.py"))
    (archive / "a-link").symlink_to("three.py")
    layer = node.build(Install("three", "1.0", content=content))
    assert node.calls > 1
    assert node.content(layer, "three") == content


def test_a_file_that_a_lock_file_names_by_its_hash_is_not_linked(tmp_path: Path, index: Index) -> None:
    """The installer compares the hash; what is unpacked has none."""
    node = Node(tmp_path, index)
    content = node.content(node.build(Install("one", "1.0")), "one")
    with pytest.raises(LayerError, match="one"):
        node.build(Install("one", "1.0", content=content, hashes=("0" * 64,)))
    assert node.calls > 1
