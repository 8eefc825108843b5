"""Content digests: one for each build of a wheel, whoever installed it; and files that are no longer as installed."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from clusters import Venv, base_python, uv
from hypothesis import given
from hypothesis import strategies as st
from package_index import wheel

from dask_pkgsync.scanning.content import _content_of, content_of, looked_at
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.records import dist_infos
from dask_pkgsync.wheels.repack import repack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dask_pkgsync import Distribution

INFO = "twin-1.0.dist-info"
PACKAGES = (
    "six==1.16.0",
    "pyyaml==6.0.2",
    "pygments==2.18.0",
    "jaraco.context==5.3.0",
    "greenlet==3.1.1",
    "tqdm==4.67.1",
)
"""Pure and compiled, with scripts, data, headers, a namespace package, and data files beside the code."""


def site_of(venv: Venv) -> Path:
    """Return the directory of distributions of a virtual environment."""
    return next(venv.root.glob("lib/python*/site-packages"))


def digests(site: Path) -> dict[str, str]:
    """Return the content digest of each distribution in a directory."""
    return {name: content_of(str(dist_info)).digest for name, dist_info in dist_infos(site).items()}


@pytest.fixture(scope="module")
def by_uv(tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """Return an environment that uv has filled."""
    venv = Venv(tmp_path_factory.mktemp("uv") / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--no-deps", "--python", venv.python, *PACKAGES])
    return venv


def test_one_wheel_has_one_digest_whoever_installed_it(by_uv: Venv, tmp_path: Path) -> None:
    """By uv, by pip with bytecode in another prefix, and rebuilt from what is installed."""
    by_pip = Venv(tmp_path / "a longer prefix" / "venv")
    subprocess.run([base_python(), "-m", "venv", str(by_pip.root)], check=True)
    argv = ["-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check", *PACKAGES]
    subprocess.run([by_pip.python, *argv], check=True)
    rebuilt = Venv(tmp_path / "rebuilt")
    uv(["venv", "--python", base_python(), str(rebuilt.root)])
    wheels = [repack(dist_info, tmp_path).path for dist_info in dist_infos(site_of(by_uv)).values()]
    uv(["pip", "install", "--no-index", "--no-deps", "--python", rebuilt.python, *map(str, wheels)])
    expected = digests(site_of(by_uv))
    assert len(expected) == len(PACKAGES)
    assert len(set(expected.values())) == len(PACKAGES)
    assert all(expected.values())
    assert expected.items() <= digests(site_of(by_pip)).items()
    assert digests(site_of(rebuilt)) == expected


def test_a_pure_wheel_is_known_from_one_with_compiled_code(by_uv: Venv) -> None:
    """Only a pure wheel has the same content on every platform."""
    scanned = scan_installed([str(site_of(by_uv))]).distributions
    assert {name for name, found in scanned.items() if not found.is_pure} == {"pyyaml", "greenlet"}


def test_an_editable_has_no_content_and_an_egg_none_that_is_known(tmp_path: Path) -> None:
    """The digest of an editable's source says what it is; nothing lists the files of an egg."""
    (tmp_path / "old-1.0.egg-info").mkdir()
    (tmp_path / "old-1.0.egg-info" / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: old\nVersion: 1.0\n")
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"mine.pth,sha256=AA,3\n{info.name}/METADATA,sha256=BB,3\n{info.name}/RECORD,,\n")
    (info / "direct_url.json").write_text('{"url": "file:///mine", "dir_info": {"editable": true}}')
    scanned = scan_installed([str(tmp_path)]).distributions
    assert [scanned[name].content for name in ("old", "mine")] == ["", ""]
    (info / "direct_url.json").unlink()
    assert scan_installed([str(tmp_path)]).distributions["mine"].content


def record(tmp_path: Path, text: str) -> str:
    """Write a RECORD; return the content digest of its distribution."""
    info = tmp_path / INFO
    info.mkdir(exist_ok=True)
    (info / "RECORD").write_bytes(text.encode())
    _content_of.cache_clear()  # what is remembered goes by size and date, and this may be the same within a tick
    return content_of(str(info)).digest


LINES = (
    *("twin.py,sha256=AA,3", "twin/__init__.py,sha256=BB,4", '"twin/with, comma.txt",sha256=CC,5'),
    *("../../../share/twin/data.txt,sha256=DD,6", f"{INFO}/METADATA,sha256=EE,7"),
)
ADDED = (
    "twin/__pycache__/in_the_wheel.cpython-311.pyc,sha256=LL,3",
    *("twin/__pycache__/x.cpython-311.pyc,,", "../../../bin/twin,sha256=FF,200", f"{INFO}/INSTALLER,sha256=GG,4"),
    *(f"{INFO}/REQUESTED,sha256=HH,0", f"{INFO}/direct_url.json,sha256=II,60", f"{INFO}/RECORD,,"),
    *(f"{INFO}/uv_cache.json,sha256=JJ,60", f"{INFO}/uv_build.json,sha256=KK,60"),
)


@given(
    order=st.permutations(range(len(LINES) + len(ADDED))),
    dropped=st.sets(st.integers(0, len(ADDED) - 1)),
    end=st.sampled_from(["\n", "\r\n"]),
    depth=st.sampled_from(["../../../", "../../"]),
)
def test_the_digest_depends_on_nothing_that_an_installer_adds(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], dropped: set[int], end: str, depth: str
) -> None:
    """Not on the order of RECORD, the ends of its lines, what installers write, or the depth of the prefix."""
    tmp_path = tmp_path_factory.mktemp("record")
    lines = [*LINES, *ADDED]
    kept = [lines[index] for index in order if index < len(LINES) or index - len(LINES) not in dropped]
    expected = record(tmp_path, "\n".join(LINES))
    assert record(tmp_path, "".join(line.replace("../../../", depth) + end for line in kept)) == expected


@pytest.mark.parametrize("index", range(len(LINES)))
def test_each_file_of_its_own_counts(tmp_path: Path, index: int) -> None:
    """With another digest, under another name, or without it, it is another build."""
    expected, line = record(tmp_path, "\n".join(LINES)), LINES[index]
    for other in (line.replace("sha256=", "sha256=Z"), line.replace("twin", "win").replace("META", "BETA"), ""):
        changed = [*LINES[:index], other, *LINES[index + 1 :]]
        assert record(tmp_path, "\n".join(changed)) not in (expected, "")


def test_bytecode_with_a_digest_is_content(tmp_path: Path) -> None:
    """A wheel of bytecode alone lists it with digests; what Python compiles has none, or lies in ``__pycache__``."""
    assert record(tmp_path, "twin.pyc,sha256=AA,3") != record(tmp_path, "twin.pyc,sha256=BB,3") != ""


@pytest.mark.parametrize("text", ["", "\n", f"{INFO}/RECORD,,", "twin.py,,", "twin.py,sha256=AA,3\nother.py,,"])
def test_without_digests_the_content_is_not_known(tmp_path: Path, text: str) -> None:
    """Paths alone do not tell two builds apart."""
    assert not record(tmp_path, text)


@pytest.fixture
def installed(tmp_path: Path) -> tuple[Path, Callable[[], Distribution]]:
    """Install a package; return its directory, and a function that looks at its files."""
    filename, data = wheel("twin", "1.0", more={"twin_data/a.txt": "aaa", "twin_data/b.txt": "bbb"})
    (tmp_path / filename).write_bytes(data)
    uv(["pip", "install", "--no-index", "--target", str(tmp_path / "site"), str(tmp_path / filename)])
    site = tmp_path / "site"

    def look() -> Distribution:
        return looked_at(scan_installed([str(site)]).distributions["twin"], str(site / INFO))

    return site, look


def later(path: Path) -> None:
    """Give a file a date after that of RECORD, as an edit does that comes later."""
    time = path.stat().st_mtime_ns + 10**10
    os.utime(path, ns=(time, time))


def test_files_that_are_as_they_were_installed_change_nothing(
    installed: tuple[Path, Callable[[], Distribution]],
) -> None:
    """Also if a file was written anew with the same bytes."""
    site, look = installed
    before = look()
    assert not before.modified
    (site / "twin_data" / "a.txt").write_text("aaa")
    later(site / "twin_data" / "a.txt")
    assert look() == before


def test_an_edit_and_a_missing_file_make_it_local_code(installed: tuple[Path, Callable[[], Distribution]]) -> None:
    """Its digest is that of the files as they are, and is its identity; back again, it is what it was."""
    site, look = installed
    before, edited = look(), site / "twin_data" / "a.txt"
    edited.write_text("xyz")  # of the same size
    later(edited)
    one = look()
    assert (one.modified, one.version) == (1, "1.0")
    assert one.content not in ("", before.content)
    assert one.identity == one.build == f"content={one.content}"
    assert "1 file modified" in one.build_label
    edited.write_text("longer than before")
    os.utime(edited, ns=(0, 0))  # older than RECORD, but of another size
    two = look()
    assert two.modified == 1
    assert two.content not in (one.content, before.content)
    (site / "twin_data" / "b.txt").unlink()
    assert look().modified == 2
    edited.write_text("aaa")
    (site / "twin_data" / "b.txt").write_text("bbb")
    for name in "ab":
        later(site / "twin_data" / f"{name}.txt")
    assert look() == before


def test_a_modified_distribution_is_packed_with_the_digest_that_was_found(
    installed: tuple[Path, Callable[[], Distribution]], tmp_path: Path
) -> None:
    """So the node that installs it finds the same content in its RECORD."""
    site, look = installed
    (site / "twin_data" / "a.txt").write_text("patched")
    (site / "twin_data" / "b.txt").unlink()
    found = look()
    packed = repack(site / INFO, tmp_path)
    assert packed.differing == ("twin_data/a.txt", "twin_data/b.txt")
    uv(["pip", "install", "--no-index", "--target", str(tmp_path / "node"), str(packed.path)])
    assert content_of(str(tmp_path / "node" / INFO)).digest == found.content


def test_a_digest_by_another_algorithm_tells_nothing(installed: tuple[Path, Callable[[], Distribution]]) -> None:
    """A file of which it is not known whether it was modified counts as modified as soon as it has to be read."""
    site, look = installed
    record = site / INFO / "RECORD"
    record.write_text(record.read_text().replace("twin_data/a.txt,sha256=", "twin_data/a.txt,shake_128="))
    assert not look().modified
    later(site / "twin_data" / "a.txt")
    assert look().modified == 1


@pytest.mark.parametrize("mark", ["~", "-"])
def test_a_leftover_of_pip_never_counts(mark: str, installed: tuple[Path, Callable[[], Distribution]]) -> None:
    """Metadata that pip was about to remove is a fault, and the distribution is the one that is there."""
    site, _ = installed
    (site / INFO).rename(site / "kept")
    leftover = site / f"{mark}win-0.9.dist-info"
    leftover.mkdir()
    (leftover / "METADATA").write_text("Metadata-Version: 2.1\nName: twin\nVersion: 0.9\n")
    (site / "kept").rename(site / INFO)
    environment = scan_installed([str(site)])
    assert environment.distributions["twin"].version == "1.0"
    assert not environment.faulty("twin")
    assert [fault.place for fault in environment.faults] == [str(leftover)]


def test_of_two_with_one_name_the_one_counts_whose_files_are_there(
    installed: tuple[Path, Callable[[], Distribution]],
) -> None:
    """RECORD says so; the other is a fault that is told, and hides nothing."""
    site, look = installed
    other = site / "twin-0.9.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: twin\nVersion: 0.9\n")
    (other / "RECORD").write_text("twin.py,sha256=AAAA,3\n")
    environment = scan_installed([str(site)])
    assert environment.distributions["twin"].version == "1.0"
    assert environment.faulty("twin") is None
    (fault,) = environment.faults
    assert (fault.kind, fault.place) == ("stray", str(other))
    assert dist_infos(site)["twin"] == site / INFO
    assert look().version == "1.0"
    (site / "twin.py").unlink()  # now neither is intact
    assert scan_installed([str(site)]).faulty("twin").kind == "duplicate"  # type: ignore[union-attr]
