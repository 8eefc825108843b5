"""Files whose digests are known are not read again; whatever is wrong with that knowledge, they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dask_pkgsync.cache.collection import collect
from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.cache.verified import MAX_FILES, VerifiedFiles

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "sha256=AA"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return an empty cache."""
    return open_cache(str(tmp_path / "cache"))


def linked(cache: Cache, name: str = "file") -> Path:
    """Return a file in the cache that was written a while ago, and that has two links."""
    path = cache.root / name
    path.write_text("text")
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    os.link(path, cache.root / f"{name}-2")
    return path


def known(cache: Cache, path: Path, digest: str = DIGEST) -> bool:
    """Whether a new process knows the file with this digest."""
    return VerifiedFiles(cache).has(path.lstat(), digest)


def note(cache: Cache, *paths: Path) -> None:
    """Note and save the digest of files."""
    verified = VerifiedFiles(cache)
    for path in paths:
        verified.add(path.lstat(), DIGEST)
    verified.save()


def test_a_file_is_known_by_each_of_its_links(cache: Cache) -> None:
    """Also by those that are made later, and with no other digest."""
    path = linked(cache)
    assert not known(cache, path)
    note(cache, path)
    os.link(path, cache.root / "later")
    assert known(cache, path)
    assert known(cache, cache.root / "later")
    assert not known(cache, path, "sha256=BB")


def test_a_change_in_place_is_told(cache: Cache) -> None:
    """By the time of the change, or the size; what restores both goes unnoticed, as is written."""
    path = linked(cache)
    note(cache, path)
    before = path.stat().st_mtime_ns
    path.write_text("TEXT")
    assert not known(cache, path)
    os.utime(path, ns=(before, before))
    assert known(cache, path)
    path.write_text("longer")
    os.utime(path, ns=(before, before))
    assert not known(cache, path)


def test_only_what_can_be_seen_again_and_is_settled_is_noted(cache: Cache) -> None:
    """A file with one link belongs to one layer; one that was just written may change within the same tick."""
    alone, new, coarse = cache.root / "alone", linked(cache, "new"), linked(cache, "coarse")
    alone.write_text("text")
    os.utime(alone, ns=(10**18 + 1, 10**18 + 1))
    os.utime(new)
    seconds = new.stat().st_mtime_ns // 10**9 * 10**9
    os.utime(coarse, ns=(seconds, seconds))  # a file system without fractions of seconds
    future = linked(cache, "future")
    os.utime(future, ns=(seconds + 10**15 + 1, seconds + 10**15 + 1))
    paths = [alone, new, coarse, future]
    note(cache, *paths)
    assert [known(cache, path) for path in paths] == [False] * 4


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"\x00" * 100, b"1 2 3", b"\n\n\n"])
def test_a_damaged_list_only_makes_files_be_read_again(cache: Cache, damage: bytes) -> None:
    """It is as none, and the next that is saved is whole."""
    path = linked(cache)
    note(cache, path)
    (place,) = cache.verified.iterdir()
    place.write_bytes(damage)
    assert not known(cache, path)
    note(cache, path)
    assert known(cache, path)


def test_a_list_that_was_cut_tells_less(cache: Cache) -> None:
    """A line without an end does not count, as its digest may be cut."""
    path = linked(cache)
    note(cache, path)
    (place,) = cache.verified.iterdir()
    place.write_bytes(place.read_bytes()[:-1])
    assert not known(cache, path)
    place.write_bytes(place.read_bytes()[:-1])
    assert not known(cache, path, DIGEST[:-1])


def test_processes_that_save_one_after_the_other_keep_both(cache: Cache) -> None:
    """What another process has saved meanwhile is kept."""
    one, two = linked(cache, "one"), linked(cache, "two")
    first, second = VerifiedFiles(cache), VerifiedFiles(cache)
    first.add(one.lstat(), DIGEST)
    second.add(two.lstat(), DIGEST)
    first.save()
    second.save()
    assert known(cache, one)
    assert known(cache, two)
    assert not list(cache.building.iterdir())


def test_the_list_is_bounded(cache: Cache) -> None:
    """The oldest lines are dropped; what was read again is among the newest."""
    path, other = linked(cache), linked(cache, "other")
    note(cache, path)
    note(cache, other)
    (place,) = cache.verified.iterdir()
    filler = "".join(f"{number} 1 1 {DIGEST}\n" for number in range(MAX_FILES - 2))
    place.write_text(place.read_text() + filler)
    note(cache, path, linked(cache, "third"))
    assert place.read_text().count("\n") == MAX_FILES
    assert known(cache, path)
    assert not known(cache, other)


def test_files_of_other_file_systems_are_never_known(cache: Cache) -> None:
    """An inode is a number of one file system."""
    path = linked(cache)
    note(cache, path)
    facts = list(path.lstat())
    facts[2] += 1  # st_dev
    assert not VerifiedFiles(cache).has(os.stat_result(facts), DIGEST)


def test_a_cache_that_cannot_be_written_is_no_failure(cache: Cache) -> None:
    """Then files are read again by the next process."""
    path = linked(cache)
    cache.verified.write_text("in the way")
    note(cache, path)
    assert not known(cache, path)


def test_lists_of_hosts_that_are_gone_are_removed(cache: Cache) -> None:
    """A list that nothing was added to for long is removed with unused layers."""
    note(cache, linked(cache))
    gone = cache.verified / "another-host"
    gone.write_text("")
    os.utime(gone, (1, 1))
    collect(cache, max_age=60, max_bytes=10**12)
    assert len(list(cache.verified.iterdir())) == 1
    assert not gone.exists()
