"""A store for blobs at any URL that fsspec knows: the client writes into it, and each host reads from it directly.

It is meant for clusters for which the scheduler's network connection is too slow. Credentials and endpoints are
configured with fsspec on both sides, never in the URL.

Each blob has a directory of its own, named by its digest. Beside the blob, a file says in its name until when the
blob is kept: the client that writes a blob, or needs it again, writes that file, and any client that uses the store
removes what nobody keeps any longer. A node that misses a blob asks the client for it again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dask_pkgsync.model.blobs import CHUNK
from dask_pkgsync.model.errors import PolicyError, WheelError
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dask_pkgsync.model.blobs import Blob
    from dask_pkgsync.wheels.blob_store import BlobStore

SHORTEST = 3600.0
"""Seconds for which a blob is kept at least: the sync that needs it may take so long."""
_DIGEST = re.compile("[0-9a-f]{64}")
_KEPT_UNTIL = re.compile("until-([0-9]+)")
_OURS = re.compile(r"until-[0-9]+|[^/]+(?:\.whl|\.conda|\.tar\.bz2|\.tar\.gz)")


class GoneError(LayerError):
    """A blob is not in the store, as it is too old, or somebody has removed it."""


def check_store(url: str) -> str:
    """Check the URL of a store and return it without a final slash; an empty text means no store.

    Raises
    ------
    PolicyError
        If it is no URL, or if it holds credentials: the URL is sent to every node.
    """
    parts = urlsplit(url)
    if url and (not parts.scheme or not url.isprintable()):
        raise PolicyError(f"store: expected a URL such as s3://bucket/wheels, found {url!r}")
    if "@" in parts.netloc or parts.query:
        raise PolicyError(
            "store: the URL holds a user, a password or a query, and would be sent to every node; configure these with "
            "fsspec (FSSPEC_… variables or its configuration files) on the client and on the nodes"
        )
    return url.rstrip("/")


def put(store: str, blob: Blob, path: Path, *, keep: float) -> None:
    """Write a blob into the store, completely or not at all, unless the store has it. Blocks.

    Parameters
    ----------
    store : str
        URL of the store.
    blob : Blob
    path : Path
        The file with the bytes of the blob.
    keep : float
        Seconds from now for which the blob is kept there, but at least `SHORTEST`.

    Raises
    ------
    WheelError
        If the blob cannot be written.
    """
    try:
        files, place = _locate(store, blob)
        _keep(files, place.rpartition("/")[0], max(keep, SHORTEST))
        if files.exists(place) and files.size(place) == blob.size:
            return
        with files.transaction, path.open("rb") as source, files.open(place, "wb") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
    except Exception as error:  # noqa: BLE001  # each kind of store raises errors of its own
        raise WheelError(
            blob.filename,
            f"it could not be written to the store {store}: {type(error).__name__}: {error}",
            advice="Make sure that fsspec can write there from the client, or leave the option store out.",
        ) from None


def _keep(files: Any, directory: str, seconds: float) -> None:
    """Write until when the blob in a directory is kept, unless it is kept for about as long already."""
    until = int(time() + seconds)
    files.makedirs(directory, exist_ok=True)
    others = [name for name in _names(files, directory) if _KEPT_UNTIL.fullmatch(name)]
    if _until(others) < until - seconds / 24:
        files.pipe_file(f"{directory}/until-{until}", b"The time, in seconds since 1970, until which this is kept.\n")
        for name in others:
            files.rm_file(f"{directory}/{name}")


def _names(files: Any, directory: str) -> list[str]:
    return [str(place).rstrip("/").rpartition("/")[2] for place in files.ls(directory, detail=False)]


def _until(names: Iterable[str]) -> int:
    """Return the latest time until which the blob beside some files is kept; 0 if none of them says it."""
    return max((int(found[1]) for name in names if (found := _KEPT_UNTIL.fullmatch(name))), default=0)


def remove_expired(store: str, *, keep: float) -> tuple[str, ...]:
    """Remove the blobs that nobody keeps any longer, and return their digests. Blocks.

    Nothing else in the store is removed. A blob of which nothing says until when it is kept, as one of an earlier
    release, is kept from now on.

    Parameters
    ----------
    store : str
        URL of the store.
    keep : float
        Seconds from now for which a blob of an earlier release is kept.
    """
    files, root = _open(store)
    names = defaultdict(list)
    for place in files.find(root):
        directory, _, name = str(place)[len(root) + 1 :].rpartition("/")
        names[directory.partition("/")[0]].append(name if "/" not in directory else directory)
    removed = []
    for digest, inside in names.items():
        if not _DIGEST.fullmatch(digest) or not all(_OURS.fullmatch(name) for name in inside):
            continue
        if not _until(inside):
            _keep(files, f"{root}/{digest}", max(keep, SHORTEST))
        elif max(_until(inside), _until(_names(files, f"{root}/{digest}"))) < time():
            files.rm(f"{root}/{digest}", recursive=True)
            removed.append(digest)
    return tuple(removed)


def fetch_into(blobs: BlobStore, store: str, blob: Blob) -> None:
    """Fetch a blob from the store into this host's blobs, if they do not have it. Blocks.

    Raises
    ------
    GoneError
        If the blob is not in the store.
    LayerError
        If the store cannot be read, or if its bytes do not have the blob's digest.
    """
    offset = blobs.expect(blob)
    if offset == blob.size:
        return
    try:
        files, place = _locate(store, blob)
        with files.open(place, "rb") as source:
            source.seek(offset)
            while chunk := source.read(CHUNK):
                offset = blobs.append(blob, offset, chunk)
    except LayerError:
        raise
    except FileNotFoundError:
        raise GoneError(
            "receive",
            f"{blob.filename} is not in the store {store} any more",
            advice="Run the sync again, from a client that has it.",
        ) from None
    except Exception as error:  # noqa: BLE001  # each kind of store raises errors of its own
        raise LayerError(
            "receive",
            f"{blob.filename} could not be read from the store {store}: {type(error).__name__}: {error}",
            advice="Make sure that fsspec can read there from this node (its package for that URL, and credentials).",
        ) from None
    if offset != blob.size:
        raise LayerError("receive", f"{blob.filename} ends early in the store {store}", advice="Run the sync again.")


def _locate(store: str, blob: Blob) -> tuple[Any, str]:
    files, root = _open(store)
    return files, f"{root}/{blob.digest}/{blob.filename}"


def _open(store: str) -> tuple[Any, str]:
    """Return the file system of a store, without what it remembers of earlier listings, and the path of the store."""
    from fsspec.core import url_to_fs

    files, root = url_to_fs(store)
    files.invalidate_cache()
    return files, root.rstrip("/")
