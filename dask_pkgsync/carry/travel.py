"""Carries this package to processes that do not have it.

`carried` makes the value that a plugin's ``__reduce__`` returns: a call of the built-in `eval` with text, so that the
receiving process needs nothing but Python and Dask to unpickle it.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

CLIENT_ONLY = ("cli/", "demo/", "scanning/other_interpreter.py", "wheels/build.py", "wheels/pack.py")
"""Folders and files that only the person's side runs. Not the preload: workers may be configured as clients are."""

_EXPRESSION = (
    "(lambda here: here.load(factory, state) if here and here.source_digest() == digest"
    " else (exec(source, names), names['load'](archive, digest, factory, state))[1])"
    "(__import__('sys').modules.get('dask_pkgsync.carry.travel'))"
)
"""Where the same source is imported already, nothing has to be compiled to find that out."""


@cache
def archive() -> bytes:
    """Return a zip of this package's source: the same bytes for the same source.

    Stored and not deflated, without dates, so that the bytes depend on the source alone.
    """
    here = _archive_of(Path(__file__).parents[1])
    return here if here is not None else _zipped(Path(__file__).parents[1])


def _archive_of(package: Path) -> bytes | None:
    """Return the archive that this package was itself imported from, if it was."""
    return package.parent.read_bytes() if package.parent.is_file() else None


def _zipped(package: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for path in sorted(package.rglob("*")):
            name = path.relative_to(package).as_posix()
            if path.suffix in (".py", ".yaml") and not name.startswith(CLIENT_ONLY):
                entry = zipfile.ZipInfo(f"{package.name}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
                bundle.writestr(entry, path.read_bytes())
    return buffer.getvalue()


@cache
def source_digest() -> str:
    """SHA-256 of `archive`, 64 hexadecimal digits."""
    return hashlib.sha256(archive()).hexdigest()


@cache
def _bootstrap() -> str:
    with zipfile.ZipFile(io.BytesIO(archive())) as bundle:
        return bundle.read("dask_pkgsync/carry/bootstrap.py").decode()


def load(factory: str, state: object) -> object:
    """Call a function of this package, given as ``module:name``."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(state)


def carried(factory: str, state: object) -> tuple[Any, ...]:
    """Return what ``__reduce__`` is to return.

    Parameters
    ----------
    factory : str
        ``module:name`` of a function of this package that takes the state and returns the object.
    state : object
        Plain data.
    """
    names = {
        "source": _bootstrap(),
        "names": {"__name__": "dask_pkgsync_bootstrap"},
        "archive": archive(),
        "digest": source_digest(),
        "factory": factory,
        "state": state,
    }
    return eval, (_EXPRESSION, names)
