"""Kinds of values that options have: what each accepts, and what it is called in schema, signature and docstring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dask.utils import parse_bytes, parse_timedelta

from dask_pkgsync.model.policy import Level

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class UnfitError(ValueError):
    """A value that is not of its kind."""

    def __init__(self, expected: str, hint: str = "") -> None:
        super().__init__(f"expected {expected}{hint}")
        self.expected = expected
        """What it would have to be, for example ``true or false``."""
        self.hint = hint
        """What to write instead, for the end of a message."""


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What values of an option are."""

    rule: Mapping[str, Any]
    """JSON schema of a configured value, for example ``{"type": "boolean"}``."""
    annotation: str
    """Type of the keyword, for example ``bool``."""
    text: str
    """The same as docstrings have it, for example ``iterable of str``."""
    read: Callable[[Any], T]
    """Returns a value in the type that our code works with; raises `UnfitError`."""
    entries: Kind[Any] | None = None
    """What the entries of a mapping are."""


def or_null(kind: Kind[T]) -> Kind[T | None]:
    """Return the same where null (None in Python) means something of its own."""
    names = kind.rule["type"]
    rule = {**kind.rule, "type": [*([names] if isinstance(names, str) else names), "null"]}
    read = kind.read
    return Kind(rule, kind.annotation, kind.text, lambda value: None if value is None else read(value), kind.entries)


def choice(words: Iterable[str]) -> Kind[str]:
    """Return the kind of what is one of a few words."""
    words = tuple(words)

    def read(value: Any) -> str:
        if value not in words:
            raise UnfitError(f"one of {', '.join(words)}")
        return str(value)

    return Kind({"enum": list(words)}, "str", "{" + ", ".join(f'"{word}"' for word in words) + "}", read)


def number(minimum: float, maximum: float) -> Kind[float]:
    """Return the kind of numbers between two others."""

    def read(value: Any) -> float:
        if isinstance(value, int | float) and minimum <= value <= maximum:
            return float(value)
        raise UnfitError(f"a number from {minimum} to {maximum}")

    return Kind({"type": "number", "minimum": minimum, "maximum": maximum}, "float", "float", read)


def _read_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UnfitError("true or false")
    return value


def _read_duration(value: Any, *, zero: bool) -> float:
    try:
        seconds = float(parse_timedelta(value))
    except (IndexError, KeyError, TypeError, ValueError):
        seconds = -1.0
    if seconds > 0 or (zero and seconds == 0):  # (neither is true of what is no number, such as .nan)
        return seconds
    raise UnfitError("a time such as '600s' or 600")


def _read_size(value: Any) -> int:
    try:
        size = int(parse_bytes(value))
    except (IndexError, KeyError, OverflowError, TypeError, ValueError):
        size = -1
    if size < 0:
        raise UnfitError("a size such as '50 MB' or a number of bytes")
    return size


def _read_modules(value: Any) -> bool | list[str]:
    if isinstance(value, str) or not isinstance(value, Iterable | bool):
        raise UnfitError("true, false or a list", f"; write [{value!r}]" if isinstance(value, str) else "")
    return value if isinstance(value, bool) else list(value)


def _as_it_is(value: Any) -> Any:
    """Return a value that is checked where it is used, in more than its type."""
    return value


_STRINGS = {"type": "array", "items": {"type": "string"}}
_DURATION = {"type": ["string", "number"], "format": "timedelta"}

BOOLEAN: Kind[bool] = Kind({"type": "boolean"}, "bool", "bool", _read_boolean)
TEXT: Kind[str] = Kind({"type": "string"}, "str", "str", _as_it_is)
STRINGS: Kind[Iterable[str]] = Kind(_STRINGS, "Iterable[str]", "iterable of str", _as_it_is)
LEVELS: Kind[Mapping[str, str]] = Kind(
    {"type": "object", "additionalProperties": {"enum": [level.value for level in Level]}},
    "Mapping[str, str]",
    "mapping of str to str",
    _as_it_is,
    choice(level.value for level in Level),
)
MODULES: Kind[bool | list[str]] = Kind(
    {"type": ["boolean", "array"], "items": {"type": "string"}},
    "bool | Iterable[str]",
    "bool or iterable of str",
    _read_modules,
)
DURATION_OR_ZERO: Kind[float] = Kind(
    _DURATION, "float | str", "float or str", lambda value: _read_duration(value, zero=True)
)
DURATION: Kind[float] = replace(
    DURATION_OR_ZERO,
    rule={**_DURATION, "exclusiveMinimum": 0},
    read=lambda value: _read_duration(value, zero=False),
)
"""Seconds, more than none, or a text such as ``10m``."""
SIZE: Kind[int] = Kind({"type": ["string", "integer"], "format": "bytes"}, "int | str", "int or str", _read_size)
"""Bytes, or a text such as ``50 MB``."""
