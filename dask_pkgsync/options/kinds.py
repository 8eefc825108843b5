"""The kinds of values of options: how each is checked, and its names in schema, signature and docstring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dask_pkgsync.model.policy import Level

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class UnfitError(ValueError):
    """A value is not of the kind of its option."""

    def __init__(self, expected: str, hint: str = "") -> None:
        super().__init__(f"expected {expected}{hint}")
        self.expected = expected
        """The values that the kind accepts, for example ``true or false``."""
        self.hint = hint
        """The end of the message: what to write instead; may be empty."""


@dataclass(frozen=True)
class Kind(Generic[T]):
    """The kind of an option's values."""

    rule: Mapping[str, Any]
    """JSON schema of a configured value, for example ``{"type": "boolean"}``."""
    annotation: str
    """Type of the keyword in signatures, for example ``Iterable[str]``."""
    text: str
    """Type of the keyword in docstrings, for example ``iterable of str``."""
    read: Callable[[Any], T]
    """Converts a given or configured value to the type that dask-pkgsync uses; raises `UnfitError`."""
    entries: Kind[Any] | None = None
    """The kind of the entries, if the values are mappings."""


def or_null(kind: Kind[T]) -> Kind[T | None]:
    """Return a kind that also accepts null (None in Python)."""
    names = kind.rule["type"]
    rule = {**kind.rule, "type": [*([names] if isinstance(names, str) else names), "null"]}
    read = kind.read
    return Kind(rule, kind.annotation, kind.text, lambda value: None if value is None else read(value), kind.entries)


def choice(words: Iterable[str]) -> Kind[str]:
    """Return the kind of texts that are one of some words."""
    words = tuple(words)

    def read(value: Any) -> str:
        if value not in words:
            raise UnfitError(f"one of {', '.join(words)}")
        return str(value)

    return Kind({"enum": list(words)}, "str", "{" + ", ".join(f'"{word}"' for word in words) + "}", read)


def number(minimum: float, maximum: float) -> Kind[float]:
    """Return the kind of numbers from a minimum to a maximum."""

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
    from dask.utils import parse_timedelta  # imported here because Dask is slow to import

    try:
        seconds = float(parse_timedelta(value))
    except (IndexError, KeyError, TypeError, ValueError):
        seconds = -1.0
    if seconds > 0 or (zero and seconds == 0):  # .nan fulfils neither condition
        return seconds
    raise UnfitError("a time such as '600s' or 600")


def _read_size(value: Any) -> int:
    from dask.utils import parse_bytes  # imported here because Dask is slow to import

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
    """Return a value unchecked; the code that uses it checks it."""
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
"""A positive number of seconds, or a text such as ``10m``."""
SIZE: Kind[int] = Kind({"type": ["string", "integer"], "format": "bytes"}, "int | str", "int or str", _read_size)
"""A number of bytes, or a text such as ``50 MB``."""
