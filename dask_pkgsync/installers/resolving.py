"""Writes the files that a resolver reads."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.resolutions.question import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dask_pkgsync.model.resolutions.question import Question


@contextlib.contextmanager
def resolving(cache: Path, requirements: Sequence[str], constraints: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Write requirements and constraints into two files beside an installer's cache; remove them afterwards."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as directory:
        inputs, bounds = Path(directory) / "requirements.in", Path(directory) / "constraints.txt"
        inputs.write_text("\n".join(requirements))
        bounds.write_text("\n".join(constraints))
        yield inputs, bounds


@dataclass(frozen=True)
class QuestionFiles:
    """The files of a question to a resolver, in a temporary directory."""

    requirements: Path
    overrides: Path
    """What counts in place of all that packages say about each other."""
    answer: Path
    """Holds the preferences, and is overwritten with the answer."""
    stand_ins: Path
    """A directory of empty wheels, for what has no wheel on the platform."""


@contextlib.contextmanager
def asking(cache: Path, question: Question) -> Iterator[QuestionFiles]:
    """Write a question into files beside an installer's cache; remove them afterwards."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as name:
        directory = Path(name)
        offered, settled = directory / "stand-ins", directory / "settled"
        offered.mkdir()
        settled.mkdir()
        for package in question.names:
            write_stand_in(offered, package)
        bounds = [*question.bounds]
        bounds += [f"{package} @ {write_stand_in(settled, package).as_uri()}" for package in question.settled]
        files = QuestionFiles(directory / "requirements.in", directory / "overrides.txt", directory / "answer", offered)
        files.requirements.write_text("\n".join([*bounds, *question.more]))
        files.overrides.write_text("\n".join(bounds))
        files.answer.write_text("\n".join(question.preferences))
        yield files


def write_stand_in(directory: Path, name: str) -> Path:
    """Write an empty wheel (PEP 427) of a package, of a version below all others; return its path."""
    stem = f"{name.replace('-', '_')}-{ABSENT}"
    path = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {ABSENT}\n")
        wheel.writestr(
            f"{stem}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: dask-pkgsync\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return path
