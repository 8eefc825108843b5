"""Pickles a plugin together with the source of this package, or a reference to it, for processes that do not have it.

`carried` and `referred` make the value that a plugin's ``__reduce__`` returns: a call of the built-in `eval` with text,
so that the receiving process needs nothing but Python and Dask to unpickle it. It unpickles as a stand-in
(`carry.stand_in`). That of a reference asks the scheduler for the rest (`parcel`), and for the source only where its
host does not have it yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.carry.archive import copy, source_digest

if TYPE_CHECKING:
    from typing import Any, Literal

__all__ = ["carried", "source_digest"]  # the plugins of all releases ask `source_digest` of this module


_EXPRESSION = (
    "(exec(compile(source, 'dask_pkgsync/carry/stand_in.py', 'exec'), names),"
    " names['STAND_INS'][role](bootstrap, arguments))[1]"
)


def carried(
    role: Literal["scheduler", "nanny", "worker"], factory: str, state: object, *, yields: bool = False
) -> tuple[Any, ...]:
    """Return the value for the ``__reduce__`` method of a plugin, which is unpickled as a stand-in for it.

    Parameters
    ----------
    role : {"scheduler", "nanny", "worker"}
        Whose plugin it is.
    factory : str
        ``module:name`` of a function of this package that takes the state and returns the plugin.
    state : object
        The argument of the function, as plain data.
    yields : bool
        Whether a process that our preload guards keeps its own copy of the package and refuses this one.
    """
    content = parcel(factory, state, yields=yields)
    return _stand_in(role, content["bootstrap"], content["arguments"])


def referred(role: Literal["nanny", "worker"], target: str) -> tuple[Any, ...]:
    """Return the value for the ``__reduce__`` method of a plugin whose content is asked for where it is needed.

    Parameters
    ----------
    role : {"nanny", "worker"}
        Whose plugin it is.
    target : str
        Name of the target (`Target.id`) that the plugin is for.
    """
    return _stand_in(role, "", {"target": target})


def parcel(factory: str, state: object, *, yields: bool = False, with_source: bool = True) -> dict[str, Any]:
    """Return what a stand-in needs to become a plugin, as plain data. Blocks.

    Parameters
    ----------
    factory, state, yields
        As for `carried`.
    with_source : bool
        Whether the source of this package comes along; else a host must have it.
    """
    source = copy()
    arguments = {
        "compressed": source.compressed if with_source else b"",
        "digest": source.digest,
        "factory": factory,
        "state": state,
        "yields": yields,
    }
    return {"bootstrap": source.bootstrap, "arguments": arguments}


def _stand_in(role: str, bootstrap: str, arguments: dict[str, Any]) -> tuple[Any, ...]:
    names = {
        "source": copy().stand_in,
        "names": {"__name__": "dask_pkgsync_stand_in"},
        "role": role,
        "bootstrap": bootstrap,
        "arguments": arguments,
    }
    return eval, (_EXPRESSION, names)
