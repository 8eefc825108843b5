"""Finds an interpreter for a target: of its exact release where one can be had, else of its X.Y."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dask_pkgsync.interpreters.candidates import without_repeats
from dask_pkgsync.interpreters.probing import Candidate, Unusable, probe
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from dask_pkgsync.interpreters.probing import Working
    from dask_pkgsync.model.environments.interpreter import Interpreter


@dataclass(frozen=True)
class Source:
    """A place where an interpreter may be had."""

    name: str
    """What it is, for people, for example ``uv python install``."""
    candidates: Callable[[Interpreter], Iterable[Candidate]]
    """Returns the interpreters there that may be the wanted one; raises `LayerError` if none can be had."""
    only_without: bool = False
    """Whether it is asked only if no other source has the wanted X.Y in any release."""


@dataclass(frozen=True)
class Found:
    """An interpreter of the wanted X.Y that works."""

    python: Path
    interpreter: Interpreter
    source: str
    """Where it is from, for people."""
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Environment variables that it needs."""
    notes: tuple[str, ...] = ()
    """What the person should know, a sentence each."""


def find_interpreter(wanted: Interpreter, sources: Sequence[Source]) -> Found:
    """Return an interpreter for a target. Blocks.

    Parameters
    ----------
    wanted : Interpreter
        That of the target. Where it is of another platform, an interpreter of this machine's is looked for.
    sources : sequence of Source
        Each is asked in turn, until one has the exact release. If none has it, the first of the X.Y is taken.

    Raises
    ------
    LayerError
        If there is none. It lists all that was looked at.
    """
    passed: list[tuple[Candidate | None, str]] = []
    second: tuple[Candidate, Working] | None = None
    for source in sources:
        if source.only_without and second is not None:
            continue
        try:
            for candidate in without_repeats(source.candidates(wanted)):
                found = _judged(candidate, wanted)
                if isinstance(found, Unusable):
                    passed.append((candidate, f"{candidate.python} ({candidate.source}): {found.reason}"))
                elif is_release(found.interpreter, wanted):
                    return _told(candidate, found, wanted, passed)
                else:
                    second = second or (candidate, found)
                    label = f"{candidate.python} ({candidate.source}): it is {found.interpreter.label}"
                    passed.append((candidate, label))
        except LayerError as error:
            passed.append((None, f"{source.name}: {error.problem}"))
    if second is None:
        raise _none(wanted, passed, [source.name for source in sources])
    return _told(*second, wanted, passed)


def is_release(found: Interpreter, wanted: Interpreter) -> bool:
    """Whether an interpreter of the wanted X.Y is of the wanted release; if only an X.Y is wanted, any release is."""
    return wanted.version in (found.version, found.feature_version)


def _judged(candidate: Candidate, wanted: Interpreter) -> Working | Unusable:
    """Return an interpreter if it works here and is of the wanted implementation, X.Y and ABI."""
    found = probe(candidate)
    if isinstance(found, Unusable):
        return found
    here, this = found.interpreter, this_interpreter()
    if (here.implementation, here.feature_version, here.is_free_threaded) != (
        wanted.implementation,
        wanted.feature_version,
        wanted.is_free_threaded,
    ):
        return Unusable(f"it is {here.label}")
    if here.platform != this.platform:
        return Unusable(f"it is built for {here.platform}, and this machine is {this.platform}")
    return found


def _told(
    candidate: Candidate, found: Working, wanted: Interpreter, passed: Sequence[tuple[Candidate | None, str]]
) -> Found:
    """Return an interpreter with notes: which it is, how it differs from the wanted one, and what was passed by."""
    notes = [f"the interpreter is {found.interpreter.label}, from {candidate.source}: {found.python}"]
    if not is_release(found.interpreter, wanted):
        notes.append(f"the target's is {wanted.label}, which cannot be had here; packages fit all of its X.Y")
    if others := [text for other, text in passed if other != candidate]:
        notes.append(f"interpreters that were passed by: {'; '.join(others)}")
    return Found(found.python, found.interpreter, candidate.source, candidate.variables, tuple(notes))


def _none(wanted: Interpreter, passed: Sequence[tuple[Candidate | None, str]], sources: Sequence[str]) -> LayerError:
    looked = [text for _, text in passed] or ["nothing there has its name"]
    version = f"{wanted.feature_version}{'t' if wanted.is_free_threaded else ''}"
    return LayerError(
        "interpreter",
        f"neither {wanted.label} nor another release of {version} can be had on this node. Looked at: "
        f"{', '.join(sources)}.\n" + "\n".join(f"  {one}" for one in looked),
        advice=f"Install Python {version} on this node, for example with `uv python install {version}`, or let "
        "dask-pkgsync download it: set UV_PYTHON_INSTALL_MIRROR there to a mirror that the node can reach.",
    )
