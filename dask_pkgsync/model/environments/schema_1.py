"""Reads environments in files of schema 1, which dask-pkgsync 0.1 wrote: lists in a fixed order, without names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERPRETER = ("implementation", "version", "platform", "tag")
_FAULT = ("kind", "place", "detail", "name")
_ORIGINS = {
    "index": (),
    "archive": ("url", "digest"),
    "vcs": ("url", "commit", "vcs", "subdirectory"),
    "directory": ("url", "editable", "digest"),
    "modules": ("url", "digest"),
    "unrecorded": (),
}


def from_schema_1(data: object) -> dict[str, Any]:
    """Return what a file of schema 1 says in the form of today; the values are checked where that is read.

    Raises
    ------
    MessageError
        If a list has another length than schema 1 gives it, or a name stands there twice.
    """
    field = Field(data, "environment")
    distributions: dict[str, Any] = {}
    for entry in field.key("distributions").items():
        name, version, origin, installer = entry.row(4)
        if name.name() in distributions:
            raise MessageError(name.place, "each name once", name.value)
        found = {"version": version.value, "origin": _origin(origin), "installer": installer.value}
        distributions[name.value] = found
    return {
        "schema": SCHEMA,
        "interpreter": _named(field.key("interpreter"), _INTERPRETER),
        "distributions": distributions,
        "faults": [_named(entry, _FAULT) for entry in field.key("faults").items()],
    }


def _origin(field: Field) -> dict[str, Any]:
    kind, *rest = [part.value for part in field.items()] or [None]
    names = _ORIGINS.get(kind) if isinstance(kind, str) else None
    if names is None or len(names) != len(rest):
        raise MessageError(field.place, "an origin", field.value)
    return {"kind": kind, **dict(zip(names, rest, strict=True))}


def _named(field: Field, names: Sequence[str]) -> dict[str, Any]:
    return {name: part.value for name, part in zip(names, field.row(len(names)), strict=True)}
