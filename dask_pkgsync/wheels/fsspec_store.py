"""A store for blobs at any URL that fsspec knows: the client writes into it, and each host reads from it directly.

It is meant for clusters for which the scheduler's network connection is too slow. Credentials and endpoints are
configured with fsspec on both sides, never in the URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dask_pkgsync.model.errors import PolicyError, WheelError
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.wheels.blob_store import CHUNK

if TYPE_CHECKING:
    from pathlib import Path

    from dask_pkgsync.model.blobs import Blob
    from dask_pkgsync.wheels.blob_store import BlobStore


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


def put(store: str, blob: Blob, path: Path) -> None:
    """Write a blob into the store, completely or not at all, unless the store has it. Blocks.

    Raises
    ------
    WheelError
        If the blob cannot be written.
    """
    try:
        files, place = _locate(store, blob)
        if files.exists(place) and files.size(place) == blob.size:
            return
        files.makedirs(place.rpartition("/")[0], exist_ok=True)
        with files.transaction, path.open("rb") as source, files.open(place, "wb") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
    except Exception as error:  # noqa: BLE001  # each kind of store raises errors of its own
        raise WheelError(
            blob.filename,
            f"it could not be written to the store {store}: {type(error).__name__}: {error}",
            advice="Make sure that fsspec can write there from the client, or leave the option store out.",
        ) from None


def fetch_into(blobs: BlobStore, store: str, blob: Blob) -> None:
    """Fetch a blob from the store into this host's blobs, if they do not have it. Blocks.

    Raises
    ------
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
    except Exception as error:  # noqa: BLE001  # each kind of store raises errors of its own
        raise LayerError(
            "receive",
            f"{blob.filename} could not be read from the store {store}: {type(error).__name__}: {error}",
            advice="Make sure that fsspec can read there from this node (its package for that URL, and credentials).",
        ) from None
    if offset != blob.size:
        raise LayerError("receive", f"{blob.filename} ends early in the store {store}", advice="Run the sync again.")


def _locate(store: str, blob: Blob) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    files, root = url_to_fs(store)
    return files, f"{root.rstrip('/')}/{blob.digest}/{blob.filename}"
