"""What another process has read of distributions is used, and never for files that have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dask_pkgsync.cache import hints
from dask_pkgsync.scanning import content, file_states, installed
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.known_distributions import KIND

if TYPE_CHECKING:
    from dask_pkgsync import Distribution

WHEEL = "Wheel-Version: 1.0\nTag: py3-none-any\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of what is known, and let files count as settled at once."""
    monkeypatch.setattr(file_states, "SETTLED", 0)
    monkeypatch.setenv("DASK_PKGSYNC__CACHE_DIRECTORY", str(tmp_path / "cache"))
    return tmp_path / "cache" / KIND


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a directory with two distributions."""
    for name in ("one", "two"):
        install(tmp_path / "site", name)
    return tmp_path / "site"


def install(site: Path, name: str, digest: str = "AA", wheel: str = WHEEL) -> Path:
    """Write a distribution, or write it anew; return its dist-info."""
    dist_info = site / f"{name}-1.0.dist-info"
    shutil.rmtree(dist_info, ignore_errors=True)
    dist_info.mkdir(parents=True)
    (dist_info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    (dist_info / "WHEEL").write_text(wheel)
    (dist_info / "RECORD").write_text(f"{name}.py,sha256={digest},3\n")
    return dist_info


def scanned(site: Path) -> dict[str, Distribution]:
    """Scan as a new process does, which remembers nothing itself."""
    installed._READ.forget()
    content._content_of.cache_clear()
    return dict(scan_installed([str(site)]).distributions)


def read_records(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that each RECORD is added to when its content digest is worked out."""
    read: list[str] = []
    original = content.own_files

    def noting(dist_info: str, *more: object) -> object:
        read.append(Path(dist_info).name.partition("-")[0])
        return original(dist_info, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(content, "own_files", noting)
    return read


def test_a_new_process_reads_no_record_again(site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds the same contents in the file that the first one has written."""
    first = scanned(site)
    assert len(list(cache.iterdir())) == 1
    read = read_records(monkeypatch)
    assert scanned(site) == first
    assert all(one.content and one.is_pure for one in first.values())
    assert read == []


def test_only_what_changed_is_read_again(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A RECORD that was rewritten in place gives a new digest, and this is known from then on."""
    first = scanned(site)
    read = read_records(monkeypatch)
    record = site / "one-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("AA", "BB"))
    again = scanned(site)
    assert again["one"].content not in ("", first["one"].content)
    assert again["two"] == first["two"]
    assert read == ["one"]
    assert scanned(site) == again
    assert read == ["one"]


def test_an_edit_that_restores_size_and_date_is_seen(site: Path) -> None:
    """By the time of the last status change, as in one process."""
    first = scanned(site)
    record = site / "one-1.0.dist-info" / "RECORD"
    facts = record.stat()
    record.write_text(record.read_text().replace("AA", "BB"))
    os.utime(record, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert record.stat().st_size == facts.st_size
    assert scanned(site)["one"].content != first["one"].content


def test_another_wheel_of_the_same_files_is_seen(site: Path) -> None:
    """Whether it is for every platform is in WHEEL, which may change alone."""
    assert scanned(site)["one"].is_pure
    (site / "one-1.0.dist-info" / "WHEEL").write_text(WHEEL.replace("none-any", "none-linux_x86_64"))
    assert not scanned(site)["one"].is_pure


def test_another_link_to_the_file_wheel_is_no_change(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installer links it into each environment."""
    first = scanned(site)
    read = read_records(monkeypatch)
    os.link(site / "one-1.0.dist-info" / "WHEEL", tmp_path / "WHEEL")
    assert scanned(site) == first
    assert read == []


def test_a_distribution_that_came_and_one_that_went(site: Path, cache: Path) -> None:
    """The file has what the directory has, also if most of it was not read again."""
    scanned(site)
    install(site, "three", "CC")
    shutil.rmtree(site / "two-1.0.dist-info")
    found = scan_installed([str(site)]).distributions  # this process remembers the others itself
    assert sorted(found) == ["one", "three"]
    (path,) = cache.iterdir()
    assert sorted(line.partition("-")[0] for line in path.read_text().splitlines()[1:]) == ["one", "three"]
    assert scanned(site) == found


def test_another_directory_in_the_same_place_is_read(site: Path) -> None:
    """Not what is known of the one that was there."""
    first = scanned(site)
    site.rename(site.with_name("aside"))
    for name in ("one", "two"):
        install(site, name, "DD")
    again = scanned(site)
    assert [again[name].content != first[name].content for name in ("one", "two")] == [True, True]
    assert scanned(site.with_name("aside")) == first


def test_what_was_just_written_is_not_kept(site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may change once more within one tick of the clock of its file system."""
    monkeypatch.setattr(file_states, "SETTLED", 10**15)
    assert scanned(site)["one"].content
    assert not cache.exists()


@pytest.mark.parametrize("damage", [b"", b"\xff" * 50, b"contents 1 x 00000000\none\n"])
def test_a_damaged_file_makes_no_scan_wrong(site: Path, cache: Path, damage: bytes) -> None:
    """It is as none, and written anew."""
    first = scanned(site)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage)
    assert scanned(site) == first
    assert path.read_bytes() == whole


def test_a_file_of_another_release_is_not_used(site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a content digest covers may have been otherwise."""
    first = scanned(site)
    (path,) = cache.iterdir()
    header, _, text = path.read_text().partition("\n")
    forged = text.replace(first["one"].content, "f" * 64)
    hints.write(KIND, path.name, header.rpartition(" ")[0] + ".older", forged.splitlines())
    assert scanned(site) == first
    hints.write(KIND, path.name, header.rpartition(" ")[0], forged.splitlines())
    assert scanned(site)["one"].content == "f" * 64  # so the file would have been used


def test_a_scan_goes_on_without_a_cache(site: Path) -> None:
    """Silently, where there is no home directory that can be written."""
    expected = {name: one.content for name, one in scanned(site).items()}
    code = (
        "import sys; from dask_pkgsync.scanning.installed import scan_installed as scan\n"
        "print({name: one.content for name, one in scan([sys.argv[1]]).distributions.items()})"
    )
    for place in ("/proc/nowhere", "/dev/null", "relative"):
        env = {name: text for name, text in os.environ.items() if "CACHE" not in name} | {"HOME": place}
        argv = [sys.executable, "-W", "error", "-c", code, str(site)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, env=env, cwd=site)
        assert (done.stdout, done.stderr) == (f"{expected}\n", "")
    assert sorted(entry.name for entry in site.iterdir()) == ["one-1.0.dist-info", "two-1.0.dist-info"]


def test_files_that_were_rewritten_in_place_are_read_again(site: Path) -> None:
    """INSTALLER and METADATA as well, whose directory does not change."""
    dist_info = site / "one-1.0.dist-info"
    (dist_info / "INSTALLER").write_text("pip\n")
    assert [scanned(site)["one"].installer for _ in range(2)] == ["pip", "pip"]
    (dist_info / "INSTALLER").write_text("another\n")
    assert scanned(site)["one"].installer == "another"
    (dist_info / "METADATA").write_text("")
    assert sorted(scanned(site)) == ["two"]


def test_where_a_distribution_came_from_is_seen(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A direct URL that comes, changes or goes; its RECORD is not read again for the next process."""
    plain = scanned(site)["one"]
    path = site / "one-1.0.dist-info" / "direct_url.json"
    found = []
    for commit in ("a" * 40, "b" * 40):
        path.write_text('{"url": "https://a.example/r", "vcs_info": {"vcs": "git", "commit_id": "' + commit + '"}}')
        found.append(scanned(site)["one"])
    assert found[0].origin != found[1].origin
    assert {one.content for one in found} == {plain.content}
    read = read_records(monkeypatch)
    assert scanned(site)["one"] == found[1]
    assert read == []
    path.unlink()
    assert scanned(site)["one"] == plain
