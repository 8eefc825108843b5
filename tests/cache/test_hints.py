"""Files of hints save work, and whatever is wrong with one, it is as none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dask_pkgsync.cache import hints
from dask_pkgsync.cache.directory import open_cache

if TYPE_CHECKING:
    from pathlib import Path

LINES = ["one", "two with spaces", "drei ß"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the user's home directory, which is empty."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("DASK_PKGSYNC__CACHE_DIRECTORY", raising=False)
    return home


def written(home: Path) -> Path:
    """Write a file of hints; return its path."""
    hints.write("kind", "name", "header 1", LINES)
    path = home / ".cache" / "dask-pkgsync" / "kind" / "name"
    assert path.is_file()
    return path


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory."""
    return sorted(entry.name for entry in directory.iterdir())


def read() -> list[str]:
    """Read that file."""
    return hints.read("kind", "name", "header 1")


def test_what_is_written_is_read_by_other_processes_of_this_user(home: Path) -> None:
    """In the cache directory that layers use, in files that nobody else can read or write."""
    assert read() == []
    path = written(home)
    code = "from dask_pkgsync.cache import hints; print(hints.read('kind', 'name', 'header 1'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{LINES}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert open_cache().root == path.parents[1]
    assert names_in(path.parent) == ["name"]


def test_an_empty_list_is_read_as_one(home: Path) -> None:
    """It has no lines, and not an empty one."""
    hints.write("kind", "name", "header 1", [])
    assert read() == []


def test_a_file_of_another_meaning_is_as_none(home: Path) -> None:
    """As one of another release."""
    written(home)
    assert hints.read("kind", "name", "header 2") == []
    assert hints.read("kind", "name", "header") == []


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "no text", "empty", "another header"])
def test_a_damaged_file_is_as_none(home: Path, damage: str) -> None:
    """A process, or the machine, may have died; a disk may be full, or bad."""
    path = written(home)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-4],
            "changed": whole.replace(b"one", b"One"),
            "longer": whole + b"three\n",
            "no text": b"\xff\xfe\x00" * 100,
            "empty": b"",
            "another header": whole.replace(b"header 1", b"header 1 00000000"),
        }[damage]
    )
    assert read() == []
    hints.write("kind", "name", "header 1", LINES)
    assert read() == LINES


def test_a_file_that_others_could_have_written_is_as_none(home: Path) -> None:
    """By its mode, or because it is a link to another file."""
    path = written(home)
    path.chmod(0o620)
    assert read() == []
    path.chmod(0o602)
    assert read() == []
    path.chmod(0o600)
    assert read() == LINES
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    assert read() == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_as_none(home: Path) -> None:
    """Whatever its mode."""
    path = written(home)
    os.chown(path, 65534, 65534)
    assert read() == []


def test_a_directory_that_others_may_write_to_is_not_used(home: Path) -> None:
    """Nothing is read from it, and nothing written there."""
    path = written(home)
    path.parents[1].chmod(0o777)
    assert read() == []
    hints.write("kind", "other", "header 1", LINES)
    assert not path.with_name("other").exists()


def test_a_special_file_is_as_none(home: Path) -> None:
    """Nobody waits for a writer, or reads without end."""
    path = written(home)
    path.unlink()
    path.mkdir()
    assert read() == []
    hints.write("kind", "name", "header 1", LINES)
    assert names_in(path.parent) == ["name"]


@pytest.mark.parametrize("place", ["a file", "missing", "relative"])
def test_without_a_place_that_can_be_written_nothing_is_kept(
    home: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure, and no directory is made outside of the user's."""
    (home / "file").touch()
    elsewhere = {"a file": home / "file", "missing": home / "no" / "such", "relative": "relative"}[place]
    monkeypatch.setenv("HOME", str(elsewhere))
    monkeypatch.chdir(home)
    hints.write("kind", "name", "header 1", LINES)
    assert read() == []
    assert names_in(home) == ["file"]


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "DASK_PKGSYNC__CACHE_DIRECTORY"])
def test_the_cache_directory_of_the_environment_is_used(
    home: Path, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere else."""
    monkeypatch.setenv(variable, str(tmp_path / "there"))
    hints.write("kind", "name", "header 1", LINES)
    assert read() == LINES
    assert names_in(home) == []
    assert (tmp_path / "there").is_dir()


def test_files_are_few_and_small(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one kind the newest are kept; what is too large is neither written nor read."""
    monkeypatch.setattr(hints, "KEPT", 3)
    path = written(home)
    for second, name in enumerate(["oldest", "old", "newer", "newest"]):
        hints.write("kind", name, "header 1", LINES)
        os.utime(path.with_name(name), (second, second))
    hints.write("kind", "name", "header 1", LINES)
    assert names_in(path.parent) == ["name", "newer", "newest"]
    monkeypatch.setattr(hints, "MAX_BYTES", 10)
    assert read() == []
    hints.write("kind", "large", "header 1", LINES)
    assert not path.with_name("large").exists()
