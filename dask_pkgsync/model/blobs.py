"""Packages that travel from a client to the nodes: what a node requests, and what the client provides.

A package is a wheel of a distribution, or the archive of a conda package. An interpreter can travel in the same way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from dask_pkgsync.model.environments.conda import CondaPackage, is_conda_name, is_conda_version
from dask_pkgsync.model.environments.origin import content_identity, identity
from dask_pkgsync.model.errors import MessageError, WheelError
from dask_pkgsync.model.wire.fields import MAX_LONG_TEXT, Field
from dask_pkgsync.model.wire.names import SHA256
from dask_pkgsync.model.wire.texts import one_line, several_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.environments.interpreter import Interpreter

CHUNK = 8 << 20
"""Bytes of a blob in one message; who sends or receives one holds not much more in memory. It is part of the protocol:
the chunks of a blob begin at its multiples."""
PEER_DEADLINE = 5.0
"""Seconds in which a peer must have sent a chunk; after that the host fetches it elsewhere."""
MAX_FAILED = 20
"""The most peers in one `ChunkRequest` that have failed."""
CONDA_SUFFIXES = (".conda", ".tar.bz2")
"""The ends of the file names of archives of conda packages: both of its formats."""
MAX_FILENAME = 255
"""The most characters of the file name of a blob: no file system has longer names."""
_IMPLEMENTATION = re.compile(r"[a-z]+")
_TAG = re.compile(r"[a-z0-9_]+-[a-z0-9_]+-[a-z0-9_.]+")
_CONDA_IDENTITY = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{32})?")
"""Matches `CondaPackage.identity`: a SHA-256, an MD5, or nothing."""


@dataclass(frozen=True, slots=True, order=True)
class BlobRequest:
    """A package that a node asks a client for: the wheel of a distribution, or the archive of a conda package."""

    name: str
    """Canonical name (PEP 503) of the distribution; the conda package's own name, for example ``ruamel.yaml``."""
    version: str
    """Its version; that of a conda package as conda spells it."""
    identity: str = ""
    """The commit or digest that tells it from other distributions of this name and version (`Distribution.identity`);
    ``content=…`` asks for the build with this content digest; empty for any build. For a conda package the digest that
    `CondaPackage.identity` is."""
    build: str = ""
    """Build string of the conda package, for example ``py312h1103770_0``; empty if a wheel is asked for."""
    tag: str = ""
    """Wheel tag of the interpreter that is asked for, for example ``cp312-cp312-manylinux_2_36_x86_64``, with its
    implementation as name; empty if a package is asked for."""

    def is_met_by(self, package: Distribution | CondaPackage | None) -> bool:
        """Whether a package is the requested one."""
        if package is None or isinstance(package, CondaPackage) != bool(self.build):
            return False
        if isinstance(package, CondaPackage):
            is_version = (package.name, package.version, package.build) == (self.name, self.version, self.build)
            return is_version and self.identity in _conda_identities(package)
        return package.same_version(self.version) and self.identity in (
            identity(package.origin),
            package.identity,
            content_identity(package.content),
        )

    def is_met_in(self, environment: Environment) -> bool:
        """Whether an environment has the requested package."""
        if self.tag:
            return self == request_for_interpreter(environment.interpreter)
        return self.is_met_by((environment.conda if self.build else environment.distributions).get(self.name))

    @property
    def label(self) -> str:
        """Name, version and build, for messages, for example ``numpy 2.1.0 py312h1103770_0``."""
        return " ".join(filter(None, (self.name, self.version, self.build, self.tag)))


def _conda_identities(package: CondaPackage) -> tuple[str, ...]:
    """Return the identities by which a conda package may be asked for; one with edited files only by its content."""
    return ("", package.content) if package.content else ("", package.sha256, package.md5)


def request_for(distribution: Distribution) -> BlobRequest:
    """Return the request for exactly this distribution."""
    return BlobRequest(distribution.name, distribution.version, distribution.identity)


def request_for_conda(package: CondaPackage) -> BlobRequest:
    """Return the request for the archive of exactly this conda package."""
    return BlobRequest(package.name, package.version, package.identity, package.build)


def request_for_interpreter(interpreter: Interpreter) -> BlobRequest:
    """Return the request for exactly this interpreter."""
    return BlobRequest(interpreter.implementation, interpreter.version, tag=interpreter.tag)


@dataclass(frozen=True, slots=True)
class Blob:
    """A wheel, conda package or interpreter that a client provides, identified by the digest of its bytes."""

    request: BlobRequest
    filename: str
    """That of a wheel (PEP 427); or name, version and build of a conda package, and one of `CONDA_SUFFIXES`."""
    digest: str
    """SHA-256, 64 hexadecimal digits."""
    size: int
    """Size in bytes."""
    note: str = ""
    """What the user should know about the package, for example that its files were changed after installation."""


@dataclass(frozen=True, slots=True)
class BlobLocation:
    """A package that a client provides, and where its bytes are."""

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
    """Return requests as plain data. ``build`` and ``tag`` are there only where they are set."""
    return [
        {
            "name": request.name,
            "version": request.version,
            "identity": request.identity,
            **({"build": request.build} if request.build else {}),
            **({"tag": request.tag} if request.tag else {}),
        }
        for request in requests
    ]


def requests_from_wire(data: object, place: str = "requests") -> tuple[BlobRequest, ...]:
    """Check and read what `requests_to_wire` wrote."""
    return tuple(_request(entry) for entry in Field(data, place).items())


def _request(field: Field) -> BlobRequest:
    identity, build = field.optional("identity", "").text(200), field.optional("build", "").text(200)
    if tag := field.optional("tag", "").text(200):
        return _interpreter_request(field, tag)
    if not build:
        return BlobRequest(field.key("name").name(), field.key("version").version(), identity)
    name, version = field.key("name").text(200), field.key("version").text(200)
    for key, is_right in (
        ("name", is_conda_name(name)),
        ("version", is_conda_version(version)),
        ("build", is_conda_version(build)),
        ("identity", _CONDA_IDENTITY.fullmatch(identity)),
    ):
        if not is_right:
            raise MessageError(f"{field.place}.{key}", f"the {key} of a conda package", field.value[key])
    return BlobRequest(name, version, identity, build)


def _interpreter_request(field: Field, tag: str) -> BlobRequest:
    name, version = field.key("name"), field.key("version").version()
    if not _IMPLEMENTATION.fullmatch(name.text(50)):
        raise MessageError(name.place, "the implementation of an interpreter", name.value)
    if not _TAG.fullmatch(tag):
        raise MessageError(f"{field.place}.tag", "the wheel tag of an interpreter", tag)
    return BlobRequest(name.text(50), version, tag=tag)


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
    """Check and read what `blob_to_wire` wrote; the file name must be that of the requested package."""
    field = Field(data, place)
    request = _request(field.key("request"))
    filename = _filename(field.key("filename"), request)
    if not (size := field.key("size").count()):
        raise MessageError(f"{place}.size", "the size of a package in bytes, more than 0", size)
    return Blob(request, filename, check_digest(field.key("digest")), size, field.optional("note", "").text())


def interpreter_archive_name(request: BlobRequest) -> str:
    """Return the file name that a requested interpreter has as a blob."""
    return f"{request.name}-{request.version}-{request.tag}.tar.gz"


def archive_name(request: BlobRequest, suffix: str) -> str:
    """Return the file name that the archive of a requested conda package has as a blob."""
    return f"{request.name}-{request.version}-{request.build}{suffix}"


def _filename(field: Field, request: BlobRequest) -> str:
    """Return a file name, which must be that of the requested package, and nothing that could be a path."""
    if request.tag:
        filename = field.text(MAX_FILENAME)
        if filename != interpreter_archive_name(request):
            raise MessageError(field.place, interpreter_archive_name(request), filename)
        return filename
    if request.build:
        filename, expected = field.text(MAX_FILENAME), [archive_name(request, suffix) for suffix in CONDA_SUFFIXES]
        if filename not in expected:
            raise MessageError(field.place, " or ".join(expected), filename)
        return filename
    filename = field.text(500)
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        raise MessageError(field.place, "the file name of a wheel", filename) from None
    if "/" in filename or "\\" in filename or name != request.name or version != Version(request.version):
        raise MessageError(field.place, f"a wheel of {request.name} {request.version}", filename)
    return filename


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
