"""Code that comes first on the search path and is not the target's is found, and put behind where that is possible."""

from __future__ import annotations

import importlib
import sys
import zipfile
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dask_pkgsync import Distribution, Environment, Policy
from dask_pkgsync.model.target import Target
from dask_pkgsync.process.module_files import is_copy
from dask_pkgsync.process.shadows import find_shadows, put_behind, wanted_of
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scanning.records import FIRST, dist_infos

if TYPE_CHECKING:
    from collections.abc import Iterator


def write(directory: Path, files: dict[str, str]) -> Path:
    """Write files below a directory."""
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def install(site: Path, distribution: str, files: dict[str, str], version: str = "1.0") -> None:
    """Install modules as a distribution."""
    site.mkdir(exist_ok=True)
    dist_info = f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata = {f"{dist_info}/METADATA": f"Name: {distribution}\nVersion: {version}\n"}
    record = {f"{dist_info}/RECORD": "".join(f"{name},,\n" for name in files)}
    write(site, {**files, **metadata, **record})


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a directory with a package, a module, and one part of a namespace."""
    site = tmp_path / "site-packages"
    install(site, "shad", {"shad/__init__.py": "V = 'right'\n", "shad/part.py": "V = 'right'\n"})
    install(site, "helpers-of-mine", {"helpers.py": "V = 'right'\n"})
    install(site, "space-one", {"space/one.py": "V = 'right'\n"})
    return site


@pytest.fixture
def front(tmp_path: Path) -> Path:
    """Return an empty directory that comes first."""
    front = tmp_path / "front"
    front.mkdir()
    return front


def found(front: Path, site: Path) -> dict[str, str]:
    """Return what shadows a distribution, with its place relative to the first directory."""
    shadows = find_shadows([str(front), str(site)], dist_infos(site))
    assert all(str(shadow.place) in str(shadow) and shadow.distribution in str(shadow) for shadow in shadows)
    base = front if front.is_dir() else front.parent
    return {shadow.module: str(Path(shadow.place).relative_to(base)) for shadow in shadows}


def test_plain_copies_are_found(front: Path, site: Path) -> None:
    """A package, a module, and a module in a namespace that both directories have; nothing else of the directory."""
    write(
        front,
        {
            "shad/__init__.py": "V = 'wrong'\n",
            "other.py": "",
            "space/one.py": "V = 'wrong'\n",
            "space/more.py": "",
            "tests.py": "",
        },
    )
    (front / "helpers.cpython-311-x86_64-linux-gnu.so").touch()
    (front / "helpers.pyc").touch()  # Python imports bytecode without a source
    shadows = found(front, site)
    assert shadows.pop("helpers").startswith("helpers.")
    assert shadows == {"shad": "shad", "space.one": "space/one.py"}


def test_what_python_would_not_import_is_no_shadow(front: Path, site: Path) -> None:
    """A regular package comes before a namespace of its name, wherever they are."""
    write(front, {"shad/other.py": "", "helpers/other.py": ""})
    (front / "shad.txt").touch()
    assert found(front, site) == {}
    assert PathFinder.find_spec("shad", [str(front), str(site)]).origin == str(site / "shad" / "__init__.py")  # type: ignore[union-attr]


def test_a_regular_package_hides_a_namespace(front: Path, site: Path) -> None:
    """A package or module that comes first hides every part of a namespace of its name."""
    write(front, {"space/__init__.py": ""})
    assert found(front, site) == {"space": "space"}
    write(front / "more", {"space.py": ""})
    assert found(front / "more", site) == {"space": "space.py"}


def test_a_copy_byte_for_byte_is_no_shadow(front: Path, site: Path) -> None:
    """The same code is the target's code, from wherever it is imported; one more or other file makes it another."""
    write(front, {"shad/__init__.py": "V = 'right'\n", "shad/part.py": "V = 'right'\n", "helpers.py": "V = 'right'\n"})
    (front / "shad" / "__pycache__").mkdir()
    assert found(front, site) == {}
    write(front, {"shad/more.py": ""})
    assert found(front, site) == {"shad": "shad"}
    (front / "shad" / "more.py").unlink()
    write(front, {"shad/part.py": "V = 'wrong'\n", "helpers.py": "V = 'wrong'\n"})
    assert found(front, site) == {"shad": "shad", "helpers": "helpers.py"}


def test_zips_are_looked_into(tmp_path: Path, site: Path) -> None:
    """An uploaded zip or egg shadows like a directory, unless it holds the same bytes."""
    archive = tmp_path / "uploaded.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("shad/__init__.py", "V = 'right'\n")
        bundle.writestr("shad/part.py", "V = 'right'\n")
        bundle.writestr("helpers.py", "V = 'wrong'\n")
    assert found(archive, site) == {"helpers": "uploaded.zip/helpers.py"}
    (tmp_path / "no.zip").write_text("no zip")
    assert find_shadows([str(tmp_path / "no.zip"), str(tmp_path / "nowhere"), str(site)], dist_infos(site)) == []


def test_who_may_come_from_anywhere_is_not_judged(front: Path, tmp_path: Path) -> None:
    """Dask's versions are compared, our own code travels in front, and the standard library's names are its own."""
    site = tmp_path / "site"
    install(site, "dask", {"dask/__init__.py": ""})
    install(site, "dask-pkgsync", {"dask_pkgsync/__init__.py": ""})
    install(site, "a-backport", {"typing.py": ""})
    write(front, {"dask/__init__.py": "V = 1", "dask_pkgsync/__init__.py": "V = 1", "typing.py": "V = 1"})
    assert found(front, site) == {}
    assert find_shadows([*sys.path, str(site)], dist_infos(site)) == []


def test_of_two_distributions_of_the_target_neither_is_a_shadow(front: Path, site: Path) -> None:
    """A file that two wanted distributions install in two directories is a clash, which is told elsewhere."""
    install(site, "two", {"tests/__init__.py": ""})
    install(front, "one", {"tests/__init__.py": "V = 1"})
    both = {**dist_infos(front), **dist_infos(site)}
    assert find_shadows([str(front), str(site)], both) == []
    assert [one.module for one in find_shadows([str(front), str(site)], dist_infos(site))] == ["tests"]


def test_what_hides_a_package_on_the_client_does_so_here(site: Path) -> None:
    """A loose module of the target that comes before one of its distributions is no shadow, and stays in front."""
    install(site, "module-shad", {f"{FIRST}/shad/__init__.py": "V = 'checkout'\n"}, "0+abc")
    path = [str(site / FIRST), str(site)]
    assert not find_shadows(path, dist_infos(site))
    assert put_behind(path, dist_infos(site)) == path


def test_what_shadows_is_put_right_behind_and_no_more(front: Path, site: Path, tmp_path: Path) -> None:
    """The import system then finds the target's code, all else in its place, and the rest of what was moved."""
    write(front, {"shad/__init__.py": "V = 'wrong'\n", "other.py": ""})
    install(front, "shad", {}, version="0.9")  # an older copy with its metadata
    unconcerned, base = write(tmp_path / "unconcerned", {"mine.py": ""}), tmp_path / "base"
    install(base, "more", {"more.py": "V = 'right'\n"})
    write(tmp_path / "second", {"more.py": "V = 'wrong'\n", "helpers.py": "V = 'wrong'\n"})
    wanted = {**dist_infos(base), **dist_infos(site)}
    path = [*map(str, (front, unconcerned, tmp_path / "second", site, base))]
    settled = put_behind(path, wanted)
    assert settled == [*map(str, (unconcerned, site, front, base, tmp_path / "second"))]
    assert put_behind(settled, wanted) == settled
    for module in ("shad", "helpers", "space", "more"):
        spec = PathFinder.find_spec(module, settled)
        assert spec is not None
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
        assert all(place.startswith((str(site), str(base))) for place in places)
    assert PathFinder.find_spec("other", settled).origin == str(front / "other.py")  # type: ignore[union-attr]
    assert put_behind(path, wanted, fixed=str(tmp_path)) == path


def test_of_the_target_only_what_a_scan_finds_is_wanted(
    front: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare egg-info that comes first is the distribution that the process has, and its files are its own."""
    wanted = [Distribution(name, "1.0") for name in ("shad", "helpers-of-mine", "space-one", "not-here")]
    target = Target(Environment.of(this_interpreter(), wanted), Policy.of(ignore=["space-one"]))
    monkeypatch.setattr(sys, "path", [str(front), str(site)])
    assert set(wanted_of(target)) == {"shad", "helpers-of-mine"}
    (front / "shad-1.0-py3.11.egg-info").touch()
    write(front, {"shad/__init__.py": "V = 'of the egg'\n"})
    assert set(wanted_of(target)) == {"helpers-of-mine"}
    assert find_shadows(sys.path, wanted_of(target), loaded=True) == []


@pytest.fixture
def loaded(front: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Import a module and a package from the first directory."""
    write(front, {"shad/__init__.py": "V = 'wrong'\n", "helpers.py": "V = 'right'\n"})
    monkeypatch.syspath_prepend(str(front))
    names = ("shad", "helpers")
    for name in names:
        importlib.import_module(name)
    yield front
    for name in names:
        del sys.modules[name]


def test_what_was_imported_already_stays_a_shadow(loaded: Path, site: Path) -> None:
    """The process goes on with what it has in memory, in whatever order the path is."""
    path = [str(loaded), str(site)]
    (shadow,) = find_shadows(path, dist_infos(site))
    assert shadow.module == "shad"
    settled = put_behind(path, dist_infos(site))
    assert settled == [str(site), str(loaded)]
    assert find_shadows(settled, dist_infos(site)) == []  # for processes that start with this path
    assert find_shadows(settled, dist_infos(site), loaded=True) == [shadow]


def test_an_imported_module_may_be_a_copy(loaded: Path, site: Path) -> None:
    """A module or package that is byte for byte that of a directory is the same version; any other one is not."""
    assert is_copy(sys.modules["helpers"], site)
    assert not is_copy(sys.modules["shad"], site)
    write(loaded, {"shad/__init__.py": "V = 'right'\n", "shad/part.py": "V = 'right'\n", "helpers.py": "V = 'wrong'\n"})
    assert is_copy(sys.modules["shad"], site)
    assert not is_copy(sys.modules["helpers"], site)
    assert not is_copy(sys, site)
    assert not is_copy(importlib.import_module("importlib.machinery"), site)
