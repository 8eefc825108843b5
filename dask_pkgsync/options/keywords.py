"""The options as keywords of `sync` and `PackageSync`: their types, signatures and docstrings."""

from __future__ import annotations

import difflib
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping  # noqa: TC003  # get_type_hints(Options) looks for them here
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from dask_pkgsync.options.definitions import KEYWORDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_pkgsync.options.option import Option

    Documented = TypeVar("Documented", bound=Callable[..., Any])

_WIDTH = 116


class Options(TypedDict, total=False):
    """The types of the keywords, for type checkers, which cannot read the definitions.

    An option that is absent or None has its value from Dask's configuration.
    """

    ignore: Iterable[str] | None
    only: Iterable[str] | None
    extra: Iterable[str] | None
    lock_groups: Iterable[str] | None
    lock_extras: Iterable[str] | None
    strict: bool | None
    scheduler: str | None
    install_timeout: float | str | None
    transport: str | None
    modules: bool | Iterable[str] | None
    store: str | None
    on_conflict: str | None
    levels: Mapping[str, str] | None
    builds: str | None
    restart: str | None
    relaunch: str | None
    keep: bool | None


def takes_options(documented: Documented) -> Documented:
    """Add the options to the signature and docstring of a function or class that takes them as ``**options``."""
    function: Any = vars(documented)["__init__"] if isinstance(documented, type) else documented
    vars(function)["__signature__"] = _signature(function)
    if documented.__doc__:  # python -OO removes docstrings
        documented.__doc__ = _with_parameters(documented.__doc__)
    return documented


def refuse_unknown(function: Callable[..., Any], options: Mapping[str, object]) -> None:
    """Raise the same error as Python 3.13 if a function is called with a keyword that is no option.

    Parameters
    ----------
    function : callable
        The function; it has the decorator `takes_options`.
    options : mapping
        The ``**options`` with which it was called.

    Raises
    ------
    TypeError
        If a keyword is not the name of an option.
    """
    known = {option.name for option in KEYWORDS}
    for name in (name for name in options if name not in known):
        close = difflib.get_close_matches(name, inspect.signature(function).parameters, 1)
        hint = f". Did you mean '{close[0]}'?" if close else ""
        raise TypeError(f"{function.__qualname__}() got an unexpected keyword argument '{name}'{hint}")


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function with every option in place of ``**options``, before other keywords."""
    signature = inspect.signature(function)
    options = [
        inspect.Parameter(
            option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=f"{option.kind.annotation} | None"
        )
        for option in KEYWORDS
    ]
    own = [
        parameter for parameter in signature.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    positional = [parameter for parameter in own if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
    return signature.replace(parameters=[*positional, *options, *own[len(positional) :]])


def _with_parameters(docstring: str) -> str:
    """Replace the description of ``**options`` in a docstring by a description of each option."""
    description = re.search(r"^( *)\*\*options.*\n(?:\1 +.*\n)+", docstring, re.MULTILINE)
    if description is None:
        raise ValueError(f"expected a description of **options, found {docstring!r}")
    entries = "".join(_entry(option, description[1]) for option in KEYWORDS)
    return docstring[: description.start()] + entries + docstring[description.end() :]


def _entry(option: Option[Any], indent: str) -> str:
    text = option.description.replace("`", "``")
    inner = f"{indent}    "
    lines = textwrap.wrap(text, _WIDTH - len(inner), break_on_hyphens=False, break_long_words=False)
    return f"{indent}{option.name} : {option.kind.text}, optional\n" + "".join(f"{inner}{line}\n" for line in lines)
