"""A layer stays what it was: its directories are read-only, and what changes all the same is seen and built anew."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters import Venv, base_python, environment_with, surroundings, uv
from uv import find_uv_bin

from dask_pkgsync.cache.collection import collect
from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.cache.marker import MARKER
from dask_pkgsync.cache.trees import BYTECODE, Tree
from dask_pkgsync.installers.programs import run
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.layer import Base, Layer, layer_from_wire, layer_to_wire
from dask_pkgsync.layers.manifest import MANIFEST, Changes, compare_with_manifest, write_manifest
from dask_pkgsync.layers.publication import MAX_ALTERED, changes_in
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.scanning.installed import scan_installed

if TYPE_CHECKING:
    from collections.abc import Callable


UNREADABLE = "has no readable list of its files any more"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Return a base with one small package."""
    venv = Venv(tmp_path_factory.mktemp("base") / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, "inflection==0.5.1"])
    site_packages = next(venv.root.glob("lib/python*/site-packages"))
    return Base(Path(venv.python), (site_packages,), scan_installed([str(site_packages)]))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Return a cache whose layers share files with the cache of uv, as those of nodes do."""
    return open_cache(str(tmp_path_factory.mktemp("cache")))


def make(base: Base, cache: Cache, *, complete: bool = False) -> Layer:
    """Build or reuse a layer with two packages."""
    target = environment_with(base.environment, {"six": "1.17.0", "tabulate": "0.9.0"})
    plan = make_plan(base.environment, target)
    installer = Uv(Path(find_uv_bin()), base.python, cache.uv)
    return build(plan.completed() if complete else plan, base, cache, lambda: installer, timeout=300)


def writable(layer: Layer) -> Layer:
    """Let this test change a layer as root could, whoever runs it."""
    for directory, _, _ in os.walk(layer.root):
        Path(directory).chmod(0o755)
    return layer


def edit_in_place(layer: Layer) -> None:
    """Change a file, also in the cache of uv, and keep its size."""
    six = layer.site_packages / "six.py"
    text = six.read_text()
    assert six.stat().st_nlink > 1
    six.write_text(text.replace("1.17.0", "9.99.0"))


def replace_longer(layer: Layer) -> None:
    """Put another file in the place of one, as an installer does."""
    (layer.site_packages / "six.py").unlink()
    (layer.site_packages / "six.py").write_text("__version__ = 'mine'")


def add(layer: Layer) -> None:
    """Add a module and a script."""
    (layer.site_packages / "of_mine.py").write_text("")
    (layer.bin / "of-mine").write_text("")


def lose_a_package(layer: Layer) -> None:
    """Lose a whole distribution."""
    for path in layer.site_packages.glob("tabulate*"):
        shutil.rmtree(path)


def lose_a_file(layer: Layer) -> None:
    """Lose one file."""
    (layer.site_packages / "six.py").unlink()


def lose_the_manifest(layer: Layer) -> None:
    """Lose the list of what was published."""
    (layer.root / MANIFEST).unlink()


def garble_the_manifest(layer: Layer) -> None:
    """Cut the list of what was published."""
    (layer.root / MANIFEST).write_text('{"six.py": [1')


@pytest.mark.parametrize(
    ("change", "told", "altered"),
    [
        (edit_in_place, "six.py was replaced", "six.py"),
        (replace_longer, "six.py was replaced", "six.py"),
        (add, "bin/of-mine, of_mine.py were added", "of_mine.py"),
        (lose_a_package, "tabulate-0.9.0.dist-info/METADATA", None),
        (lose_a_file, "six.py is missing", None),
        (lose_the_manifest, "it has no list of its files any more", None),
        (garble_the_manifest, "it has no readable list of its files any more", None),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_a_layer_that_was_changed_is_built_anew(
    base: Base, cache: Cache, change: Callable[[Layer], None], told: str, altered: str | None, *, complete: bool
) -> None:
    """What differs from what was published is named, and the layer is what it was, under the same path."""
    layer = make(base, cache, complete=complete)
    assert not changes_in(layer)
    change(writable(layer))
    assert told in str(changes_in(layer))
    again = make(base, cache, complete=complete)
    assert any(told in note for note in again.notes)
    assert (again.root, again.reused) == (layer.root, False)
    assert again.built != layer.built
    assert (altered is None) or any(path.endswith(f"/{altered}") for path in again.altered)
    assert layer_from_wire(layer_to_wire(again)).altered == again.altered
    assert "built anew" in str(changes_in(layer)), "who prepared the layer before does not see that it is another one"
    assert not changes_in(again)
    code = "import six, tabulate; print(six.__version__, tabulate.__version__)"
    finished = run([str(again.python), "-c", code], timeout=60, env=surroundings())
    assert finished.stdout.split() == ["1.17.0", "0.9.0"], finished.stderr
    reused = make(base, cache, complete=complete)
    assert reused.reused
    assert not any("built anew" in note for note in reused.notes), "it is told again, though it was told already"
    assert not list(cache.building.iterdir())


def add_in_depth(root: Path) -> None:
    """Add files to a directory, and in new directories."""
    (root / "pkg" / "sub" / "new.py").write_text("")
    (root / "pkg" / "more" / "inner").mkdir(parents=True)
    (root / "pkg" / "more" / "inner" / "new.py").write_text("")
    (root / "empty").mkdir()


def add_bytecode(root: Path) -> None:
    """Let Python write bytecode where it has no place yet."""
    (root / "pkg" / "sub" / BYTECODE).mkdir()
    (root / "pkg" / "sub" / BYTECODE / "a.pyc").write_text("")


def add_and_remove(root: Path) -> None:
    """Touch a directory, which holds the same afterwards."""
    (root / "pkg" / "sub" / "new.py").write_text("")
    (root / "pkg" / "sub" / "new.py").unlink()


def link_instead_of_a_directory(root: Path) -> None:
    """Put a link in the place of a directory."""
    (root / "pkg" / "sub").rename(root.parent / "elsewhere")
    (root / "pkg" / "sub").symlink_to(root.parent / "elsewhere")


def file_instead_of_a_directory(root: Path) -> None:
    """Put a file in the place of a directory."""
    shutil.rmtree(root / "pkg" / "sub")
    (root / "pkg" / "sub").write_text("")


def directory_instead_of_a_file(root: Path) -> None:
    """Put a directory in the place of a file."""
    (root / "pkg" / "b.py").unlink()
    (root / "pkg" / "b.py").mkdir()


def other_target(root: Path) -> None:
    """Let a link lead elsewhere."""
    (root / "link").unlink()
    (root / "link").symlink_to("pkg/sub/a.py")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (add_in_depth, Changes(added=("pkg/more/inner/new.py", "pkg/sub/new.py"))),
        (add_bytecode, Changes()),
        (add_and_remove, Changes()),
        (link_instead_of_a_directory, Changes(added=("pkg/sub",))),
        (file_instead_of_a_directory, Changes(missing=("pkg/sub/a.py",), added=("pkg/sub",))),
        (directory_instead_of_a_file, Changes(replaced=("pkg/b.py",))),
        (other_target, Changes(replaced=("link",))),
        (lambda root: shutil.rmtree(root / "pkg"), Changes(missing=("pkg/b.py", "pkg/sub/a.py"))),
        (lambda root: (root / MANIFEST).write_bytes((root / MANIFEST).read_bytes()[:-1]), Changes(whole=UNREADABLE)),
        (lambda root: (root / MANIFEST).write_bytes(b""), Changes(whole=UNREADABLE)),
        (lambda root: (root / MANIFEST).write_bytes(b"1 2\0"), Changes(whole=UNREADABLE)),
        (shutil.rmtree, Changes(whole="is gone")),
    ],
)
def test_changes_of_files_and_directories_are_named(
    tmp_path: Path, change: Callable[[Path], None], expected: Changes
) -> None:
    """Whatever was added, removed, replaced, or is of another kind now; places for bytecode do not count."""
    root = tmp_path / "layer"
    (root / "pkg" / "sub").mkdir(parents=True)
    for path in ("pkg/b.py", "pkg/sub/a.py", "a file.py"):
        (root / path).write_text(path)
        os.utime(root / path, (1, 1))
    (root / "link").symlink_to("pkg/b.py")
    for directory in (root / "pkg" / "sub", root / "pkg"):
        os.utime(directory, (1, 1))
    write_manifest(Tree(str(root)))
    assert compare_with_manifest(root) == Changes()
    change(root)
    assert compare_with_manifest(root) == expected


def lengthen(file: Path) -> None:
    """Write more into a file."""
    file.write_text(file.read_text() + "#")


def keep_the_size(file: Path) -> None:
    """Write as much into a file as it had, but other text."""
    file.write_text(file.read_text().replace("1.17.0", "9.99.0"))


@pytest.mark.parametrize("spoil", [lengthen, keep_the_size, Path.unlink])
def test_a_spoilt_file_of_the_cache_of_uv_never_reaches_a_layer(
    base: Base, cache: Cache, spoil: Callable[[Path], None]
) -> None:
    """Whoever changed it, and in which layer: uv gets the package anew."""
    layer = make(base, cache)
    in_cache = next(path for path in cache.uv.glob("archive-v0/*/six.py"))
    assert in_cache.samefile(layer.site_packages / "six.py")
    expected = in_cache.read_text()
    shutil.rmtree(writable(layer).root)
    spoil(in_cache)
    again = make(base, cache)
    assert (again.site_packages / "six.py").read_text() == expected
    assert not changes_in(again)


@pytest.mark.parametrize("gone", ["marker", "layer"])
def test_what_is_gone_as_a_whole_is_built_again(base: Base, cache: Cache, gone: str) -> None:
    """A layer without its marker, and one that is not there, are built as if for the first time."""
    layer = make(base, cache)
    (writable(layer).root / MARKER).unlink() if gone == "marker" else shutil.rmtree(writable(layer).root)
    assert bool(changes_in(layer)) == (gone == "layer")
    again = make(base, cache)
    assert not again.reused
    assert not changes_in(again)


def test_bytecode_and_use_are_no_changes(base: Base, cache: Cache) -> None:
    """A layer has places for bytecode, and what Python writes there does not count; neither does the marker's time."""
    layer = make(base, cache)
    finished = run([str(layer.python), "-c", "import six, tabulate"], timeout=60, env=surroundings())
    assert finished.returncode == 0, finished.stderr
    assert list(layer.site_packages.glob(f"{BYTECODE}/six*.pyc"))
    os.utime(layer.root / MARKER)
    assert not changes_in(layer)


def test_only_the_places_for_bytecode_can_be_written(base: Base, cache: Cache, tmp_path: Path) -> None:
    """Every directory of a layer is read-only, no file's mode changes, and an unused layer is removed all the same."""
    own = open_cache(str(tmp_path / "cache"))
    layer = make(base, own)
    directories = [layer.root, *(path for path in layer.root.rglob("*") if path.is_dir() and not path.is_symlink())]
    writable = {path.name for path in directories if stat.S_IMODE(path.stat().st_mode) & 0o222}
    assert writable == {BYTECODE}
    assert (layer.site_packages / "six.py").stat().st_mode & 0o200
    own.end_leases([layer.digest])
    assert collect(own, max_age=-1, max_bytes=0) == (layer.digest,)
    assert not layer.root.exists()
    assert not list(own.building.iterdir())
    del cache


def test_nobody_but_root_installs_into_a_layer(base: Base, cache: Cache) -> None:
    """An installer that is told to install into the layer itself is refused."""
    layer = make(base, cache)
    if os.access(layer.site_packages, os.W_OK):
        pytest.skip("permissions do not stop root")
    argv = [find_uv_bin(), "--no-config", "pip", "install", "--python", str(layer.python), "inflection==0.5.0"]
    assert run(argv, timeout=60).returncode != 0
    assert not changes_in(layer)


def test_a_long_list_of_changes_is_cut(base: Base, cache: Cache) -> None:
    """People read the first names and how many more; above a limit any file counts as altered."""
    layer = writable(make(base, cache))
    for number in range(MAX_ALTERED + 1):
        (layer.site_packages / f"added_{number:04}\n.py").write_text("")
    assert str(changes_in(layer)).isprintable()
    again = make(base, cache)
    assert again.notes[-1].endswith(f"added_0004?.py and {MAX_ALTERED - 4} more were added")
    assert again.altered == ("",)
    assert str(Changes()) == ""


def test_a_name_that_cannot_be_sent_stands_for_any_file(base: Base, cache: Cache) -> None:
    """A layer with such a file is set aside as well, and reaches workers as a message."""
    layer = writable(make(base, cache))
    (layer.site_packages / os.fsdecode(b"caf\xe9\n.py")).write_text("")
    assert str(changes_in(layer)).isprintable()
    again = make(base, cache)
    assert layer_from_wire(layer_to_wire(again)).altered == ("",)
    assert not changes_in(again)
