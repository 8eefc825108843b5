"""Pickles an object together with the source of this package, for processes that do not have it.

`carried` makes the value that a plugin's ``__reduce__`` returns: a call of the built-in `eval` with text, so that the
receiving process needs nothing but Python and Dask to unpickle it.
"""

from __future__ import annotations

import importlib
import io
import zipfile
from functools import cache
from typing import TYPE_CHECKING

from dask_pkgsync.carry.archive import archive, compressed, source_digest

if TYPE_CHECKING:
    from typing import Any


_EXPRESSION = (
    "(lambda travel: travel.load(factory, state) if travel and travel.source_digest() == digest"
    " else (exec(source, names), names['load'](compressed, digest, factory, state, yields=yields))[1])"
    "(__import__('sys').modules.get('dask_pkgsync.carry.travel'))"
)
"""Calls `load` of this module if the process has imported the same source, which saves compiling the bootstrap; else
runs the bootstrap."""


@cache
def _bootstrap() -> str:
    with zipfile.ZipFile(io.BytesIO(archive())) as bundle:
        return bundle.read("dask_pkgsync/carry/bootstrap.py").decode()


def load(factory: str, state: object) -> object:
    """Call a function of this package, given as ``module:name``."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(state)


def carried(factory: str, state: object, *, yields: bool = False) -> tuple[Any, ...]:
    """Return the value for a ``__reduce__`` method, so that unpickling calls a function of this package.

    Parameters
    ----------
    factory : str
        ``module:name`` of a function of this package that takes the state and returns the object.
    state : object
        The argument of the function, as plain data.
    yields : bool
        Whether a process that our preload guards keeps its own copy of the package and refuses this one.
    """
    names = {
        "source": _bootstrap(),
        "names": {"__name__": "dask_pkgsync_bootstrap"},
        "compressed": compressed(),
        "digest": source_digest(),
        "factory": factory,
        "state": state,
        "yields": yields,
    }
    return eval, (_EXPRESSION, names)
