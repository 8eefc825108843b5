"""Runs uv or pip, and explains their failures to people."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LAST_LINES = 30
"""Lines of an installer's output that an error shows."""

# For each cause of a failure: a pattern of the output, the problem, the advice, and whether the index is at fault.
_CAUSES: tuple[tuple[str, str, str, bool], ...] = (
    (
        r"no space left on device|os error 28|errno 28|disk quota exceeded",
        "there is no space left in the cache directory",
        "Free space there, or set pkgsync.cache-directory on that node to a larger file system.",
        False,
    ),
    (
        r"read-only file system|permission denied|os error 13|errno 13|os error 30",
        "the cache directory cannot be written",
        "Make it writable, or set pkgsync.cache-directory on that node.",
        False,
    ),
    (
        r"hash mismatch|hashes do not match|do not match the hashes",
        "a file from the index does not have the hash that the index or the lock file says",
        "If a lock file says it, lock again; else report it to the operator of the index. Nothing was installed of it.",
        True,
    ),
    (
        r"error sending request|failed to fetch|could not connect|connection (refused|error)|max retries|timed out|dns",
        "the package index could not be reached from the node",
        "Make it reachable: UV_DEFAULT_INDEX or PIP_INDEX_URL, proxy and certificates are those that the node has.",
        True,
    ),
    (
        r"no solution found|no matching distribution|not found in the package registry|no version of|has no wheels",
        "the index has no such version for this platform",
        "Check the versions against the index, or name the packages in ignore=.",
        True,
    ),
    (
        r"failed to build|build backend|subprocess-exited-with-error|metadata-generation-failed",
        "a package without a wheel for this platform could not be built on the node",
        "Choose a version that has a wheel, or name the package in ignore=.",
        True,
    ),
)

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def call(
    argv: Sequence[str],
    step: str,
    pins: Sequence[str],
    *,
    timeout: float,
    temporary: Path,
    env: Mapping[str, str],
) -> str:
    """Run an installer and return what it printed.

    Parameters
    ----------
    argv : sequence of str
    step : str
        The step of the sync, for errors.
    pins : sequence of str
        The pins that the output of a failure may name.
    timeout : float
        Seconds that it may take.
    temporary : Path
        Its working directory.
    env : mapping
        Its environment variables (`installers.settings`).

    Raises
    ------
    LayerError
        If it fails, hangs or is killed. It holds the last lines of the output, the pins that the output names, and
        what to do.
    """
    try:
        finished = run(argv, timeout=timeout, env=env, cwd=temporary)
    except DeadlineExceededError as error:
        raise LayerError(
            step,
            str(error),
            advice="Find out why it hangs (often the index, or a proxy), or raise install-timeout.",
            last_words=last_words(error.stderr),
            packages=blamed(pins, error.stderr),
            index_at_fault=True,
        ) from None
    except OSError as error:
        raise LayerError(
            step,
            f"{argv[0]} could not be started: {error.strerror}",
            advice="Make it a program that this user may start; on a file system that is mounted noexec none can be. "
            "pkgsync.cache-directory says where dask-pkgsync puts programs on that node.",
        ) from None
    if finished.returncode == 0:
        return finished.stdout
    output = finished.stderr or finished.stdout
    problem, advice, index_at_fault = explain(finished.returncode, output)
    raise LayerError(
        step,
        problem,
        advice=advice,
        last_words=last_words(output),
        packages=blamed(pins, output),
        index_at_fault=index_at_fault,
    )


def explain(returncode: int, output: str) -> tuple[str, str, bool]:
    """Return problem, advice, and whether the index is at fault, for an installer's exit status and output."""
    if returncode < 0:
        name = signal.Signals(-returncode).name if -returncode in set(signal.Signals) else str(-returncode)
        return (
            f"the installer was killed by {name}",
            "Run the sync again; if memory was short, give the node more.",
            False,
        )
    for pattern, problem, advice, index_at_fault in _CAUSES:
        if re.search(pattern, output, re.IGNORECASE):
            return problem, advice, index_at_fault
    advice = "Correct on that node what the last lines name, or take the packages from the client: transport='client'."
    return f"the installer failed with exit status {returncode}", advice, False


def last_words(text: str) -> str:
    """Return the last lines of an output, without credentials."""
    return "\n".join(_CREDENTIALS.sub("***@", text).strip().splitlines()[-LAST_LINES:])


def blamed(pins: Sequence[str], output: str) -> tuple[str, ...]:
    """Return the pins whose distributions an output mentions by name."""
    words = {str(canonicalize_name(word.rstrip("._-"))) for word in re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", output)}
    bare = (pin.partition(" ")[0] if " --hash" in pin else pin for pin in pins)
    return tuple(pin for pin in bare if str(canonicalize_name(re.split(r"[^A-Za-z0-9._-]", pin)[0])) in words)
