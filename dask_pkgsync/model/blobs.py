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
