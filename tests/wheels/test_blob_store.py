"""Blobs are kept whole or not at all, whoever sends them, however often it breaks off."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import replace
from time import time
from typing import TYPE_CHECKING

import fsspec
import pytest

from dask_pkgsync.cache.collection import collect
from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.cache.host import this_host
from dask_pkgsync.model.blobs import CHUNK, Blob, BlobRequest, blob_from_wire, blob_to_wire, requests_from_wire
from dask_pkgsync.model.errors import MessageError, PolicyError, WheelError
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.wheels import fsspec_store
from dask_pkgsync.wheels.blob_store import BlobStore
from dask_pkgsync.wheels.fsspec_store import GoneError, check_store, fetch_into, put, remove_expired

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 40


def blob(content: bytes = CONTENT, name: str = "six") -> Blob:
    """Return what announces some bytes."""
    digest = hashlib.sha256(content).hexdigest()
    return Blob(BlobRequest(name, "1.0"), f"{name}-1.0-py3-none-any.whl", digest, len(content))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return an empty cache."""
    return open_cache(str(tmp_path / "cache"))


def blobs_in(cache: Cache, max_age: float = 3600, max_bytes: int = 100_000) -> BlobStore:
    """Return the blobs of a cache."""
    return BlobStore(cache, max_age=max_age, max_bytes=max_bytes)


def test_a_blob_comes_in_parts_and_is_read_in_parts(cache: Cache) -> None:
    """Parts in their order make a file of the announced name; it is verified whenever it is used."""
    blobs, one = blobs_in(cache), blob()
    assert blobs.expect(one) == 0
    assert blobs.append(one, 0, CONTENT[:5000]) == 5000
    assert not blobs.has(one)
    assert blobs.expect(one) == 5000  # where an upload that broke off goes on
    assert blobs.append(one, 5000, CONTENT[5000:]) == len(CONTENT)
    assert blobs.has(one)
    assert blobs.verify(one).name == one.filename
    assert blobs.read(one, 100, 50) == CONTENT[100:150]
    assert not list(cache.building.iterdir())
    assert blobs.expect(one) == len(CONTENT)
    assert blobs_in(cache).has(one)  # also for the next process


def test_two_clients_that_send_one_blob_help_each_other(cache: Cache) -> None:
    """What one has sent is passed over when the other sends it; both are told where to go on."""
    blobs, one = blobs_in(cache), blob()
    assert blobs.expect(one) == blobs.expect(one) == 0
    assert blobs.append(one, 0, CONTENT[:4000]) == 4000
    assert blobs.append(one, 0, CONTENT[:4000]) == 4000
    assert blobs.append(one, 4000, CONTENT[4000:]) == len(CONTENT)
    assert blobs.append(one, 4000, CONTENT[4000:]) == len(CONTENT)
    assert blobs.verify(one).read_bytes() == CONTENT


def test_many_at_once_make_one_blob(cache: Cache) -> None:
    """Threads that send the same blob at the same time end with one whole file."""
    blobs, one = blobs_in(cache), blob()

    def send() -> None:
        offset = blobs.expect(one)
        while offset < one.size:
            offset = blobs.append(one, offset, CONTENT[offset : offset + 100])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs.verify(one).read_bytes() == CONTENT
    assert not list(cache.building.iterdir())


@pytest.mark.parametrize(
    "content", [CONTENT[:-1] + b"x", CONTENT + b"more"], ids=["a flipped byte", "more than announced"]
)
def test_bytes_that_were_not_announced_are_refused(content: bytes, cache: Cache) -> None:
    """Whatever does not have the digest is thrown away, and the next try begins anew."""
    blobs, one = blobs_in(cache), blob()
    blobs.expect(one)
    with pytest.raises(LayerError, match="does not have the bytes that the client announced"):
        blobs.append(one, 0, content)
    assert not blobs.has(one)
    assert not list(cache.building.iterdir())
    with pytest.raises(LayerError, match="given up"):
        blobs.append(one, 0, CONTENT)  # nobody expects it any more
    assert blobs.expect(one) == 0
    assert blobs.append(one, 0, CONTENT) == len(CONTENT)


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT[:-1] + b"x"], ids=["truncated", "flipped"])
def test_a_blob_that_is_damaged_on_the_disk_is_sent_again(damage: bytes, cache: Cache) -> None:
    """It is removed when it is next used or offered."""
    blobs, one = blobs_in(cache), blob()
    blobs.expect(one)
    blobs.append(one, 0, CONTENT)
    blobs.path(one).write_bytes(damage)
    assert blobs.expect(one) == 0
    blobs.append(one, 0, CONTENT)
    blobs.path(one).write_bytes(damage)
    with pytest.raises(LayerError, match="does not have the bytes"):
        blobs.verify(one)
    assert not blobs.has(one)


def test_a_full_store_makes_room_of_what_nobody_uses(cache: Cache) -> None:
    """The longest unused go first; what is leased stays, and then nothing more is taken in."""
    store = blobs_in(cache, max_bytes=25_000)
    blobs = [blob(CONTENT + bytes([number])) for number in range(4)]
    for number, one in enumerate(blobs[:2]):
        store.expect(one)
        store.append(one, 0, CONTENT + bytes([number]))
        os.utime(store.path(one).parent, (time() - 100 + number, time() - 100 + number))
    store.expect(blobs[2])
    assert [store.has(one) for one in blobs[:2]] == [False, True]
    cache.lease(blobs[1].digest)
    with pytest.raises(LayerError, match="does not fit") as caught:
        store.expect(blobs[3])
    assert "store-size" in caught.value.advice
    assert store.has(blobs[1])
    cache.end_leases([blobs[1].digest])
    store.forget_partial(0)
    assert store.expect(blobs[3]) == 0


def test_what_is_too_old_goes(cache: Cache) -> None:
    """A blob that nobody used for the configured time is removed when the next one comes."""
    blobs, one = blobs_in(cache, max_age=10), blob()
    blobs.expect(one)
    blobs.append(one, 0, CONTENT)
    os.utime(blobs.path(one).parent, (time() - 60, time() - 60))
    blobs.expect(blob(b"another"))
    assert not blobs.has(one)


def test_an_upload_that_stopped_is_given_up_after_a_while(cache: Cache) -> None:
    """What came of it is removed; also what a process that died was writing."""
    blobs, one = blobs_in(cache), blob()
    blobs.expect(one)
    blobs.append(one, 0, CONTENT[:100])
    blobs.forget_partial(60)
    assert blobs.expect(one) == 100
    blobs.forget_partial(-1)
    assert not list(cache.building.iterdir())
    assert blobs.expect(one) == 0
    (cache.building / f"blob-999999999-{this_host()}-12345678").write_bytes(b"left by a process that is gone")
    collect(cache, max_age=60, max_bytes=1)
    assert not list(cache.building.iterdir())


def test_a_disk_that_fails_is_told(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk while a blob is published is a clear one, and nothing stays."""
    blobs, one = blobs_in(cache), blob()
    blobs.expect(one)
    cache.blobs.rmdir()
    cache.blobs.write_text("a file where the directory should be")
    with pytest.raises(LayerError, match="could not be stored"):
        blobs.append(one, 0, CONTENT)


def test_a_store_holds_blobs_for_every_host(cache: Cache, tmp_path: Path) -> None:
    """Any URL of fsspec: written once, read by each host into its own cache, verified there."""
    one, store = blob(), (tmp_path / "store").as_uri()
    source = tmp_path / one.filename
    source.write_bytes(CONTENT)
    put(store, one, source, keep=0)
    source.write_bytes(b"not read again")
    put(store, one, source, keep=0)
    blobs = blobs_in(cache)
    fetch_into(blobs, store, one)
    fetch_into(blobs, store, one)
    assert blobs.verify(one).read_bytes() == CONTENT
    stored = tmp_path / "store" / one.digest / one.filename
    for damaged, reason in (
        (CONTENT[:-1] + b"x", "does not have the bytes"),
        (CONTENT[:-1], "ends early"),
    ):
        stored.write_bytes(damaged)
        other = blobs_in(open_cache(str(tmp_path / reason)))
        with pytest.raises(LayerError, match=reason):
            fetch_into(other, store, one)
        assert not other.has(one)
    stored.unlink()
    with pytest.raises(GoneError, match="is not in the store"):
        fetch_into(blobs_in(open_cache(str(tmp_path / "second"))), store, one)
    with pytest.raises(LayerError, match="could not be read from the store") as caught:
        fetch_into(blobs_in(open_cache(str(tmp_path / "third"))), "unheard-of://x", one)
    assert "fsspec" in caught.value.advice
    (tmp_path / "file").write_text("")
    with pytest.raises(WheelError, match="could not be written to the store"):
        put((tmp_path / "file" / "below").as_uri(), one, source, keep=0)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of an empty store: on disk, and one that is only like an object store."""
    url = (tmp_path / "store").as_uri() if request.param == "file" else f"memory://{tmp_path.name}/store"
    yield url
    fsspec.filesystem("memory").store.clear()


def test_a_store_keeps_what_is_needed_and_nothing_for_longer(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that nobody needed for a day is removed; one that somebody puts again is kept for a further day."""
    source, day = tmp_path / "bytes", 24 * 3600.0
    source.write_bytes(CONTENT)
    needed, unneeded = blob(), blob(CONTENT, "other")
    unneeded = replace(unneeded, digest="0" * 64)
    put(store, needed, source, keep=day)
    put(store, unneeded, source, keep=day)
    assert remove_expired(store, keep=day) == ()
    now = time()
    monkeypatch.setattr(fsspec_store, "time", lambda: now + 0.9 * day)
    put(store, needed, source, keep=day)
    monkeypatch.setattr(fsspec_store, "time", lambda: now + 1.1 * day)
    assert remove_expired(store, keep=day) == (unneeded.digest,)
    files, root = fsspec.core.url_to_fs(store)
    assert {place[len(root) + 1 :].split("/")[0] for place in files.find(root)} == {needed.digest}
    assert len(files.find(root)) == 2  # the blob, and one note of how long it is kept
    fetch_into(blobs_in(open_cache(str(tmp_path / "cache"))), store, needed)
    put(store, unneeded, source, keep=0)  # and it comes back, at least for the sync that needs it
    assert remove_expired(store, keep=day) == ()


def test_only_what_is_ours_is_removed_from_a_store(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other files stay, and the packages of an earlier release are kept for a day from when they are first seen."""
    files, root = fsspec.core.url_to_fs(store)
    mine = ("readme.txt", "deep/er/x.whl", f"{'1' * 64}/until-1/x.whl", f"{'2' * 64}/notes.txt", f"{'2' * 64}/until-1")
    packages = ("x-1.0-py3-none-any.whl", "x-1.0-0.conda", "x-1.0-0.tar.bz2")
    for name in (*mine, *(f"{digit * 64}/{name}" for digit, name in zip("345", packages, strict=True))):
        files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        files.pipe_file(f"{root}/{name}", b"x")
    assert remove_expired(store, keep=7200) == ()
    now = time()
    monkeypatch.setattr(fsspec_store, "time", lambda: now + 8000)
    assert sorted(remove_expired(store, keep=7200)) == ["3" * 64, "4" * 64, "5" * 64]
    assert {place[len(root) + 1 :] for place in files.find(root)} == set(mine)


@pytest.mark.parametrize("url", ["no url", "s3://me:hunter2@bucket/x", "https://host/x?token=hunter2"])
def test_the_url_of_a_store_holds_no_secret(url: str) -> None:
    """It is told to every node; the error does not repeat a secret."""
    assert check_store("s3://bucket/wheels/") == "s3://bucket/wheels"
    assert check_store("") == ""
    with pytest.raises(PolicyError, match="store: ") as caught:
        check_store(url)
    assert "hunter2" not in str(caught.value)


WIRE = blob_to_wire(blob())


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"filename": "../six-1.0-py3-none-any.whl"}, "filename"),
        ({"filename": "a/six-1.0-py3-none-any.whl"}, "filename"),
        ({"filename": "six-2.0-py3-none-any.whl"}, "filename"),
        ({"filename": "other-1.0-py3-none-any.whl"}, "filename"),
        ({"filename": "six.txt"}, "filename"),
        ({"digest": "0" * 63}, "digest"),
        ({"digest": "../" + "0" * 61}, "digest"),
        ({"size": -1}, "size"),
        ({"request": ["six", "1.0"]}, "request"),
        ({"request": {"name": "six"}}, "request"),
        ({"request": {"name": "-r", "version": "1.0", "identity": ""}}, "request"),
    ],
)
def test_what_is_announced_is_checked(change: dict[str, object], place: str) -> None:
    """Nothing in an announcement can name a place outside of the store."""
    assert blob_from_wire(WIRE) == blob()
    with pytest.raises(MessageError) as caught:
        blob_from_wire({**WIRE, **change})
    assert place in caught.value.place


def test_requests_are_checked() -> None:
    """A node asks for names and versions, nothing else."""
    wire = {"name": "six", "version": "1.0", "identity": "abc"}
    assert requests_from_wire([wire]) == (BlobRequest("six", "1.0", "abc"),)
    assert requests_from_wire([{"name": "six", "version": "1.0"}]) == (BlobRequest("six", "1.0"),)
    for wrong in ({**wire, "name": "../six"}, {**wire, "version": "latest"}, ["six", "1.0", ""]):
        with pytest.raises(MessageError):
            requests_from_wire([wrong])


def test_chunks_come_in_any_order_and_only_with_their_digest(cache: Cache) -> None:
    """What is too short, too long, of another type, or has another digest is not written; the whole is verified."""
    content = CONTENT * 900  # two chunks
    store, one = blobs_in(cache, max_bytes=1 << 30), blob(content)
    first, second = content[:CHUNK], content[CHUNK:]
    with store.incoming(one) as incoming:
        assert incoming.write(1, second, hashlib.sha256(second).hexdigest())
        for wrong in (second, first[:-1], first + b"x", "text", None):
            assert not incoming.write(0, wrong)
        assert not incoming.write(0, first, "0" * 64)
        assert (incoming.have, incoming.is_complete) == (2, False)
        assert (store.read_chunk(one.digest, 0), store.read_chunk(one.digest, 1)) == (None, second)
        assert incoming.write(0, memoryview(first))
        assert incoming.is_complete
        assert not store.has(one)
    assert store.has_verified(one)
    assert store.path(one).read_bytes() == content
    assert [store.read_chunk(one.digest, chunk) for chunk in range(3)] == [first, second, None]
    assert incoming.read(0) is None
    assert not list(cache.building.iterdir())


def test_nothing_stays_of_chunks_that_make_another_blob_or_break_off(cache: Cache) -> None:
    """Also where there is no room, or the disk fails when the file is to get its place."""
    store, one = blobs_in(cache), blob()
    wrong = CONTENT[:-1] + b"x"

    def fetch(content: bytes | None, into: BlobStore = store) -> None:
        with into.incoming(one) as incoming:
            if content is None:
                raise ConnectionError("the connection broke")
            assert incoming.write(0, content)

    with pytest.raises(LayerError, match="does not have the bytes"):
        fetch(wrong)
    with pytest.raises(ConnectionError):
        fetch(None)
    with pytest.raises(LayerError, match="does not fit"):
        fetch(CONTENT, blobs_in(cache, max_bytes=10))
    with pytest.raises(LayerError, match="could not be stored"), store.incoming(one) as incoming:
        incoming.write(0, CONTENT)
        cache.blobs.rmdir()
        cache.blobs.write_text("a file where the directory should be")
    assert not list(cache.building.iterdir())
