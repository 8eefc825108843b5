"""Checks data from another process, piece by piece, before anything looks at it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.text import shown
from dask_pkgsync.model.wire.names import CANONICAL, NORMAL, canonical_name
from dask_pkgsync.model.wire.protocol import OLDEST, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


MAX_TEXT = 2_000
"""Characters in one text."""
MAX_LONG_TEXT = 20_000
"""Characters in an installer's last words."""
MAX_ITEMS = 20_000
"""Entries in one list: more distributions than any environment has."""


@dataclass(frozen=True)
class Field:
    """A value from another process, with its place, that answers only in the types asked of it."""

    value: Any
    place: str

    def key(self, name: str) -> Field:
        """Return an entry of a dictionary."""
        if not isinstance(self.value, dict):
            raise MessageError(self.place, "a dictionary", self.value)
        if name not in self.value:
            raise MessageError(self.place, f"the key {name!r}", list(islice(self.value, 20)))
        return Field(self.value[name], f"{self.place}.{name}")

    def optional(self, name: str, default: Any) -> Field:
        """Return an entry of a dictionary, or a default where it has none."""
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
        """Return the keys of a dictionary, with what each holds; the keys are not checked."""
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
        """Return a text on one line."""
        found = self.long_text(limit)
        if not found.isprintable():
            raise MessageError(self.place, "one line of printable text", found)
        return found

    def long_text(self, limit: int = MAX_LONG_TEXT) -> str:
        """Return a text of several lines."""
        if not isinstance(self.value, str):
            raise MessageError(self.place, "text", self.value)
        if len(self.value) > limit:
            raise MessageError(self.place, f"at most {limit} characters", f"{len(self.value)} characters")
        if not self.value.isascii():
            try:
                self.value.encode()
            except UnicodeEncodeError:  # it could not be sent on to anybody
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
        """Return a number that arithmetic can be done with, also a negative one."""
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
        """Return the canonical name of a distribution."""
        found = self.text(200)
        if CANONICAL.fullmatch(found):
            return found
        try:
            canonical = canonical_name(found)
        except ValueError:
            raise MessageError(self.place, "the name of a distribution (PEP 503)", found) from None
        if canonical != found:
            raise MessageError(self.place, f"a canonical name ({canonical})", found)
        return found

    def version(self) -> str:
        """Return a version."""
        found = self.text(200)
        if NORMAL.fullmatch(found):
            return found
        try:
            parsed = Version(found)
        except InvalidVersion:
            raise MessageError(self.place, "a version (PEP 440)", found) from None
        if not found.isascii() or found.strip() != found:
            raise MessageError(self.place, f"a version without spaces ({parsed})", found)
        return found

    def schema(self) -> None:
        """Refuse a schema that this release does not read."""
        found = self.key("schema").value
        if not is_known_schema(found):
            known = f"{OLDEST} to {SCHEMA}" if OLDEST < SCHEMA else SCHEMA
            raise MessageError(f"{self.place}.schema", f"{known} (install the same dask-pkgsync on both sides)", found)


def is_known_schema(value: object) -> bool:
    """Whether this release reads messages of a schema."""
    return isinstance(value, int) and not isinstance(value, bool) and OLDEST <= value <= SCHEMA
