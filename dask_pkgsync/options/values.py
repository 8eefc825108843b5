"""Reads the value of an option: the given keyword, or else Dask's configuration, or else the default."""

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
    """Return the default of each option, by key."""
    return {option.key: copy.deepcopy(option.default) for option in OPTIONS}


def load_defaults() -> None:
    """Add the defaults to Dask's configuration, where every configured value overrides them."""
    dask.config.update_defaults({"pkgsync": defaults()})


def setting(key: str) -> Any:
    """Return the configured value, or the default: also if code has cleared Dask's configuration, as tests do."""
    return dask.config.get(f"pkgsync.{key}", default=defaults()[key])


def chosen(option: Option[Any], options: Options) -> Any:
    """Return the given value of an option, or else the configured one, unchecked."""
    given = options.get(option.name)
    return setting(option.key) if given is None else given


def read(option: Option[T], options: Options | None = None) -> T:
    """Return the checked value of an option, in the type that dask-pkgsync uses.

    Parameters
    ----------
    option : Option
    options : dict, optional
        Given values by keyword. An option that is absent or None has its value from the configuration.

    Raises
    ------
    PolicyError
        If the value is not of the option's kind. It names the option, and the place where it was configured.
    """
    options = options or {}
    value = chosen(option, options)
    try:
        return option.kind.read(value)
    except UnfitError as error:
        is_given = options.get(option.name) is not None
        name, where = (option.key, "") if is_given else (f"pkgsync.{option.key}", place(option.key))
        found = f"a {type(value).__name__}" if option.is_secret else repr(value)
        raise PolicyError(f"{name}: expected {error.expected}, found {found}{where}{error.hint}") from None


load_defaults()
