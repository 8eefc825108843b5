"""The value of an option: what was given, or else what Dask's configuration says, or else the default."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import dask

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.options.definitions import OPTIONS
from dask_pkgsync.options.kinds import UnfitError
from dask_pkgsync.options.places import place

if TYPE_CHECKING:
    from dask_pkgsync.options.keywords import Options
    from dask_pkgsync.options.option import Option

T = TypeVar("T")


@cache
def defaults() -> dict[str, Any]:
    """Return the defaults, by key."""
    return {option.key: copy.deepcopy(option.default) for option in OPTIONS}


def load_defaults() -> None:
    """Make the defaults known to Dask, below whatever is configured."""
    dask.config.update_defaults({"pkgsync": defaults()})


def setting(key: str) -> Any:
    """Return what is configured; the default also where somebody has cleared Dask's configuration, as tests do."""
    return dask.config.get(f"pkgsync.{key}", default=defaults()[key])


def chosen(option: Option[Any], options: Options) -> Any:
    """Return what was given, or else what is configured, as it stands there."""
    given = options.get(option.name)
    return setting(option.key) if given is None else given


def read(option: Option[T], options: Options | None = None) -> T:
    """Return the value of an option in the type that our code works with.

    Parameters
    ----------
    option : Option
    options : dict, optional
        What was given, by keyword; None or absent: as configured.

    Raises
    ------
    PolicyError
        If the value is not of its kind: with the option as the person has written it, and where it stands if it was
        configured.
    """
    options = options or {}
    value = chosen(option, options)
    try:
        return option.kind.read(value)
    except UnfitError as error:
        is_given = options.get(option.name) is not None
        called, where = (option.key, "") if is_given else (f"pkgsync.{option.key}", place(option.key))
        found = f"a {type(value).__name__}" if option.is_secret else repr(value)
        raise PolicyError(f"{called}: expected {error.expected}, found {found}{where}{error.hint}") from None


load_defaults()
