"""Interpreters that uv finds, or downloads into our cache (``uv python install``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.installers.calls import call, last_words
from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.installers.settings import installer_environment
from dask_pkgsync.interpreters.candidates import managed_by_uv, program_name
from dask_pkgsync.interpreters.probing import Candidate
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers.uv import Uv
    from dask_pkgsync.model.environments.interpreter import Interpreter

_REACHING = (
    *("UV_PYTHON_INSTALL_MIRROR", "UV_PYPY_INSTALL_MIRROR", "UV_GRAALPY_INSTALL_MIRROR"),
    *("UV_PYTHON_DOWNLOADS_JSON_URL", "UV_PYTHON_DOWNLOADS"),
)
"""uv's variables that say where interpreters may be downloaded from, and whether."""
_QUICK = {"UV_HTTP_RETRIES": "0", "UV_HTTP_CONNECT_TIMEOUT": "5"}
"""Seconds that uv waits for a connection, and how often it tries again: many nodes reach no mirror at all."""
FIND_TIMEOUT = 60.0
"""Seconds in which uv must have looked for an interpreter on this machine."""


def request_of(wanted: Interpreter, *, exact: bool) -> str:
    """Return how uv is asked for an interpreter (0.13), for example ``cpython@3.13.1+freethreaded``."""
    version = wanted.version if exact else wanted.feature_version
    return f"{wanted.implementation}@{version}{'+freethreaded' if wanted.is_free_threaded else ''}"


def find_argv(uv: Uv, wanted: Interpreter) -> list[str]:
    """Return the argument vector that finds an interpreter of an X.Y on this machine."""
    options = ["--system", "--no-project", "--offline", "--no-python-downloads"]
    return [*uv.common(), "python", "find", *options, request_of(wanted, exact=False)]


def install_argv(uv: Uv, wanted: Interpreter, directory: Path, *, exact: bool) -> list[str]:
    """Return the argument vector that downloads an interpreter into a directory."""
    return [
        *uv.common(),
        *["python", "install", "--no-bin", "--install-dir", str(directory), request_of(wanted, exact=exact)],
    ]


def found_by_uv(uv: Uv, cache: Cache, wanted: Interpreter) -> Iterator[Candidate]:
    """Yield what uv finds on this machine, also under other names (``python3``) and in other places. Blocks."""
    env = _environment(cache)
    try:
        finished = run(find_argv(uv, wanted), timeout=FIND_TIMEOUT, env=env)
    except (DeadlineExceededError, OSError) as error:
        raise LayerError("interpreter", str(error)) from None
    if finished.returncode:
        raise LayerError("interpreter", _problem(finished.stderr))
    yield Candidate(Path(finished.stdout.strip()), "uv python find")


def downloaded(uv: Uv, cache: Cache, wanted: Interpreter, *, exact: bool, timeout: float) -> Iterator[Candidate]:
    """Yield what was downloaded earlier, or download an interpreter now, once per host. Blocks.

    Raises
    ------
    LayerError
        If it cannot be downloaded.
    """
    directory = cache.tools / "python"
    there = list(_there(directory, wanted))
    if not exact and there:
        yield from there
        return
    version = f"-{wanted.version}"
    if exact and any(version in str(candidate.python) for candidate in there):
        yield from there
        return
    with cache.lock("tool-python", timeout):
        argv, env = install_argv(uv, wanted, directory, exact=exact), _environment(cache)
        try:
            call(argv, "interpreter", (), timeout=timeout, temporary=cache.building, env=env)
        except LayerError as error:
            raise LayerError("interpreter", _problem(error.last_words) or error.problem) from None
    yield from _there(directory, wanted)


def _there(directory: Path, wanted: Interpreter) -> Iterator[Candidate]:
    for prefix in managed_by_uv(directory, wanted):
        yield Candidate(prefix / "bin" / program_name(wanted), "uv python install")


def _environment(cache: Cache) -> dict[str, str]:
    own = {name: os.environ[name] for name in _REACHING if name in os.environ}
    return {**installer_environment(cache.building, {}, OWN), **_QUICK, **own}


def _problem(stderr: str) -> str:
    """Return the first and the last cause that uv names, on one line."""
    lines = [line.strip().removeprefix("error:").removeprefix("cause:") for line in last_words(stderr).splitlines()]
    named = [line.strip() for line in lines if line.strip()]
    return ": ".join(dict.fromkeys((named[0], named[-1]))) if named else ""
