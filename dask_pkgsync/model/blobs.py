"""Wheels that travel from a client to the nodes: what a node requests, and what the client provides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from dask_pkgsync.model.environments.origin import content_identity, identity
from dask_pkgsync.model.errors import MessageError, WheelError
from dask_pkgsync.model.wire.fields import MAX_LONG_TEXT, Field
from dask_pkgsync.model.wire.names import SHA256
from dask_pkgsync.model.wire.texts import one_line, several_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dask_pkgsync.model.environments.distribution import Distribution

CHUNK = 8 << 20
"""Bytes of a blob in one message; who sends or receives one holds not much more in memory. It is part of the protocol:
the chunks of a blob begin at its multiples."""
PEER_DEADLINE = 5.0
"""Seconds in which a peer must have sent a chunk; after that the host fetches it elsewhere."""
MAX_FAILED = 20
"""The most peers in one `ChunkRequest` that have failed."""


@dataclass(frozen=True, slots=True, order=True)
class BlobRequest:
    """A distribution whose wheel a node asks a client for."""

    name: str
    """Canonical name (PEP 503)."""
    version: str
    identity: str = ""
    """The commit or digest that tells it from other distributions of this name and version (`Distribution.identity`);
    ``content=…`` asks for the build with this content digest; empty for any build."""

    def is_met_by(self, distribution: Distribution | None) -> bool:
        """Whether a distribution is the requested one."""
        if distribution is None or not distribution.same_version(self.version):
            return False
        return self.identity in (
            identity(distribution.origin),
            distribution.identity,
            content_identity(distribution.content),
        )


def request_for(distribution: Distribution) -> BlobRequest:
    """Return the request for exactly this distribution."""
    return BlobRequest(distribution.name, distribution.version, distribution.identity)


@dataclass(frozen=True, slots=True)
class Blob:
    """A wheel that a client provides, identified by the digest of its bytes."""

    request: BlobRequest
    filename: str
    digest: str
    """SHA-256, 64 hexadecimal digits."""
    size: int
    """Size in bytes."""
    note: str = ""
    """What the user should know about the wheel, for example that its files were changed after installation."""


@dataclass(frozen=True, slots=True)
class BlobLocation:
    """A wheel that a client provides, and where its bytes are."""

    blob: Blob
    store: str = ""
    """URL of the client's store (`wheels.fsspec_store`); empty if the bytes are on the scheduler's disk."""


def chunk_count(blob: Blob) -> int:
    """Return the number of chunks of a blob."""
    return -(-blob.size // CHUNK)


def chunk_size(blob: Blob, chunk: int) -> int:
    """Return the bytes of a chunk, by its number: `CHUNK`, except for the last one."""
    return min(CHUNK, blob.size - chunk * CHUNK)


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """A host asks the scheduler for the next chunk of a blob, or for another host (a *peer*) that has it."""

    blob: Blob
    node: str
    """The address of the asking node, at which other nodes can ask it for the chunks that it has."""
    have: int
    """The chunks that the host has: the bit with the value ``1 << number`` is set for each."""
    pending: int = 0
    """The chunks, as in ``have``, that the host is still fetching or writing."""
    failed: tuple[str, ...] = ()
    """The peers that have failed since the last request: out of reach, too slow, or with wrong bytes."""
    may_wait: bool = True
    """Whether the host can do nothing until it gets an answer, so that the scheduler may wait for a chunk."""

    @property
    def missing(self) -> int:
        """The chunks, as in ``have``, that the host neither has nor fetches."""
        return ~(self.have | self.pending) & ((1 << chunk_count(self.blob)) - 1)


def chunk_request_to_wire(request: ChunkRequest) -> dict[str, Any]:
    """Return a chunk request as plain data: the keywords of ``pkgsync_get``.

    A scheduler of release 0.2 knows only the first two, and answers with the chunk at this offset.
    """
    length = (chunk_count(request.blob) + 7) // 8
    missing = request.missing
    first = (missing & -missing).bit_length() - 1
    return {
        "blob": blob_to_wire(request.blob),
        "offset": first * CHUNK if missing else request.blob.size,
        "node": request.node,
        "have": request.have.to_bytes(length, "big"),
        "pending": request.pending.to_bytes(length, "big"),
        "failed": list(request.failed),
        "may-wait": request.may_wait,
    }


def chunk_request_from_wire(blob: Blob, data: object, place: str = "request") -> ChunkRequest:
    """Check and read what `chunk_request_to_wire` wrote, of a blob that has been read already."""
    field, count = Field(data, place), chunk_count(blob)
    return ChunkRequest(
        blob,
        field.key("node").text(500),
        _chunks(field.key("have"), count),
        _chunks(field.key("pending"), count),
        tuple(entry.text(500) for entry in field.optional("failed", ()).items(MAX_FAILED)),
        field.optional("may-wait", default=True).flag(),
    )


def _chunks(field: Field, count: int) -> int:
    """Return a set of chunks, sent as bytes, as a number with one bit for each."""
    if not isinstance(field.value, bytes | bytearray | memoryview) or len(field.value) != (count + 7) // 8:
        raise MessageError(field.place, f"{(count + 7) // 8} bytes, with one bit for each chunk", field.value)
    chunks = int.from_bytes(field.value, "big")
    if chunks >> count:
        raise MessageError(field.place, f"bits for {count} chunks", f"{chunks.bit_length()} bits")
    return chunks


def check_chunk(field: Field) -> int:
    """Return the number of the chunk that begins at the offset in a field, else raise `MessageError`."""
    offset = field.count()
    if offset % CHUNK:
        raise MessageError(field.place, f"a multiple of {CHUNK}", offset)
    return offset // CHUNK


def check_digest(field: Field) -> str:
    """Return the value of a field if it is a SHA-256 digest, else raise `MessageError`."""
    digest = field.text(64)
    if not SHA256.fullmatch(digest):
        raise MessageError(field.place, "a SHA-256 digest of 64 hexadecimal digits", digest)
    return digest


def requests_to_wire(requests: Iterable[BlobRequest]) -> list[dict[str, str]]:
    """Return requests as plain data."""
    return [{"name": request.name, "version": request.version, "identity": request.identity} for request in requests]


def requests_from_wire(data: object, place: str = "requests") -> tuple[BlobRequest, ...]:
    """Check and read what `requests_to_wire` wrote."""
    return tuple(_request(entry) for entry in Field(data, place).items())


def _request(field: Field) -> BlobRequest:
    identity = field.optional("identity", "").text(200)
    return BlobRequest(field.key("name").name(), field.key("version").version(), identity)


def blob_to_wire(blob: Blob) -> dict[str, Any]:
    """Return a blob as plain data."""
    return {
        "request": requests_to_wire([blob.request])[0],
        "filename": blob.filename,
        "digest": blob.digest,
        "size": blob.size,
        "note": one_line(blob.note),
    }


def blob_from_wire(data: object, place: str = "blob") -> Blob:
    """Check and read what `blob_to_wire` wrote; the file name must be that of a wheel of the requested distribution."""
    field = Field(data, place)
    request = _request(field.key("request"))
    filename = field.key("filename").text(500)
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        raise MessageError(f"{place}.filename", "the file name of a wheel", filename) from None
    if "/" in filename or "\\" in filename or name != request.name or version != Version(request.version):
        raise MessageError(f"{place}.filename", f"a wheel of {request.name} {request.version}", filename)
    if not (size := field.key("size").count()):
        raise MessageError(f"{place}.size", "the size of a wheel in bytes, more than 0", size)
    return Blob(request, filename, check_digest(field.key("digest")), size, field.optional("note", "").text())


def location_to_wire(location: BlobLocation) -> dict[str, Any]:
    """Return the location of a blob as plain data."""
    return {"blob": blob_to_wire(location.blob), "store": location.store}


def location_from_wire(data: object, place: str = "location") -> BlobLocation:
    """Check and read what `location_to_wire` wrote."""
    field = Field(data, place)
    blob = field.key("blob")
    return BlobLocation(blob_from_wire(blob.value, blob.place), field.optional("store", "").text())


def wheel_error_to_wire(error: WheelError) -> dict[str, str]:
    """Return a wheel error as plain data."""
    return {
        "package": several_lines(error.package),
        "problem": several_lines(error.problem),
        "advice": several_lines(error.advice),
        "last-words": several_lines(error.last_words[-MAX_LONG_TEXT:]),
    }


def wheel_error_from_wire(data: object, place: str = "error") -> WheelError:
    """Check and read what `wheel_error_to_wire` wrote."""
    field = Field(data, place)
    package, problem = (field.key(name).long_text() for name in ("package", "problem"))
    advice, last_words = (field.optional(name, "").long_text() for name in ("advice", "last-words"))
    return WheelError(package, problem, advice=advice, last_words=last_words)
