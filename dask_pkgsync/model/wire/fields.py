"""Checks data from another process, value by value, before it is used."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.text import shown
from dask_pkgsync.model.wire.names import CANONICAL, NORMAL, canonical_name
from dask_pkgsync.model.wire.protocol import OLDEST, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


MAX_TEXT = 2_000
"""The most characters of a text on one line."""
MAX_LONG_TEXT = 20_000
"""The most characters of a text of several lines, such as the end of an installer's output."""
MAX_ITEMS = 20_000
"""The most entries of one list: more than the distributions of any environment."""


@dataclass(frozen=True)
class Field:
    """A value from another process, and its place in the message.

    Each method returns the value, or a part of it, if it has the form that the method names; else it raises
    `MessageError` with the place.
    """

    value: Any
    """The unchecked value."""
    place: str
    """Path of the value in the message, for example ``target.environment``."""

    def key(self, name: str) -> Field:
        """Return the entry of a dictionary with this key."""
        if not isinstance(self.value, dict):
            raise MessageError(self.place, "a dictionary", self.value)
        if name not in self.value:
            raise MessageError(self.place, f"the key {name!r}", list(islice(self.value, 20)))
        return Field(self.value[name], f"{self.place}.{name}")

    def optional(self, name: str, default: Any) -> Field:
        """Return the entry of a dictionary with this key, or a default if there is none."""
        if isinstance(self.value, dict) and name not in self.value:
            return Field(default, f"{self.place}.{name}")
        return self.key(name)

    def items(self, limit: int = MAX_ITEMS) -> Iterator[Field]:
        """Return the entries of a list."""
        if not isinstance(self.value, list | tuple):
            raise MessageError(self.place, "a list", self.value)
        if len(self.value) > limit:
            raise MessageError(self.place, f"at most {limit} entries", f"{len(self.value)} entries")
        return (Field(value, f"{self.place}[{index}]") for index, value in enumerate(self.value))

    def entries(self, limit: int) -> Iterator[tuple[Any, Field]]:
        """Return the keys of a dictionary, unchecked, each with its entry."""
        if not isinstance(self.value, dict):
            raise MessageError(self.place, "a dictionary", self.value)
        if len(self.value) > limit:
            raise MessageError(self.place, f"at most {limit} entries", f"{len(self.value)} entries")
        return ((key, Field(value, f"{self.place}[{shown(key)!a}]")) for key, value in self.value.items())

    def row(self, length: int) -> list[Field]:
        """Return the entries of a list of a fixed length."""
        entries = self.items()
        if len(self.value) != length:
            raise MessageError(self.place, f"a list of {length}", f"{len(self.value)} entries")
        return list(entries)

    def text(self, limit: int = MAX_TEXT) -> str:
        """Return a printable text on one line."""
        text = self.long_text(limit)
        if not text.isprintable():
            raise MessageError(self.place, "one line of printable text", text)
        return text

    def long_text(self, limit: int = MAX_LONG_TEXT) -> str:
        """Return a text of several lines."""
        if not isinstance(self.value, str):
            raise MessageError(self.place, "text", self.value)
        if len(self.value) > limit:
            raise MessageError(self.place, f"at most {limit} characters", f"{len(self.value)} characters")
        if not self.value.isascii():
            try:
                self.value.encode()
            except UnicodeEncodeError:  # a text with surrogates cannot be sent on
                raise MessageError(self.place, "text without halves of characters (surrogates)", self.value) from None
        return self.value

    def number(self) -> float:
        """Return a finite number that is not negative."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise MessageError(self.place, "a number", self.value)
        if not 0 <= self.value <= sys.float_info.max:
            raise MessageError(self.place, "a finite number that is not negative", self.value)
        return float(self.value)

    def count(self) -> int:
        """Return a whole number that is not negative, of at most 64 bits."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not 0 <= self.value < 2**63:
            raise MessageError(self.place, "a whole number that is not negative", self.value)
        return self.value

    def finite(self) -> float | int:
        """Return a finite number, which may be negative."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise MessageError(self.place, "a number", self.value)
        if not -sys.float_info.max <= self.value <= sys.float_info.max:
            raise MessageError(self.place, "a finite number", self.value)
        return self.value

    def flag(self) -> bool:
        """Return a truth value."""
        if not isinstance(self.value, bool):
            raise MessageError(self.place, "true or false", self.value)
        return self.value

    def name(self) -> str:
        """Return the canonical name of a distribution (PEP 503)."""
        name = self.text(200)
        if CANONICAL.fullmatch(name):
            return name
        try:
            canonical = canonical_name(name)
        except ValueError:
            raise MessageError(self.place, "the name of a distribution (PEP 503)", name) from None
        if canonical != name:
            raise MessageError(self.place, f"a canonical name ({canonical})", name)
        return name

    def version(self) -> str:
        """Return a version (PEP 440)."""
        version = self.text(200)
        if NORMAL.fullmatch(version):
            return version
        from packaging.version import InvalidVersion, Version  # imported here because it is rarely needed

        try:
            parsed = Version(version)
        except InvalidVersion:
            raise MessageError(self.place, "a version (PEP 440)", version) from None
        if not version.isascii() or version.strip() != version:
            raise MessageError(self.place, f"a version without spaces ({parsed})", version)
        return version

    def schema(self) -> None:
        """Raise `MessageError` if the message has a schema that this release does not read."""
        schema = self.key("schema").value
        if not is_known_schema(schema):
            known = f"{OLDEST} to {SCHEMA}" if OLDEST < SCHEMA else SCHEMA
            raise MessageError(f"{self.place}.schema", f"{known} (install the same dask-pkgsync on both sides)", schema)


def is_known_schema(value: object) -> bool:
    """Whether a value is a schema whose messages this release reads."""
    return isinstance(value, int) and not isinstance(value, bool) and OLDEST <= value <= SCHEMA
