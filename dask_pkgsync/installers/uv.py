"""Installs with uv."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dask_pkgsync.installers.calls import call
from dask_pkgsync.installers.resolving import asking, resolving
from dask_pkgsync.installers.settings import installer_environment, listed
from dask_pkgsync.model.indexes import OWN, Indexes
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.resolutions.question import answer_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dask_pkgsync.installers.resolving import QuestionFiles
    from dask_pkgsync.model.resolutions.question import Pinned, Question


@dataclass(frozen=True)
class Uv:
    """uv, with its cache inside ours, so that it hard-links files instead of copying them."""

    program: Path
    """Path of the executable."""
    python: Path
    """The node's interpreter, for which environments are made."""
    cache: Path
    """uv's cache directory."""
    trust: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that say whom this machine trusts (`scanning.configured_trust`)."""
    name: str = "uv"

    def common(self) -> list[str]:
        """Return the beginning of every argument vector: uv reads no configuration files, and uses our cache."""
        return [str(self.program), "--no-config", "--no-progress", "--color", "never", "--cache-dir", str(self.cache)]

    def environment(self, temporary: Path, indexes: Indexes = OWN) -> dict[str, str]:
        """Return the environment variables of uv, with the indexes, whose URLs may hold passwords."""
        return installer_environment(temporary, {**self.trust, **index_variables(indexes)}, indexes)

    def install_argv(
        self, environment: Path, requirements: Path, indexes: Indexes = OWN, *, offline: bool = False
    ) -> list[str]:
        """Return the argument vector that installs exact versions and wheels.

        By default uv 0.13 clones files where the file system can do that. Links are made faster, share memory between
        the processes of all layers, and show that a file was verified before (`cache.verified`).
        """
        python = environment / "bin" / "python"
        options = [
            "--no-deps",
            "--link-mode",
            "hardlink",
            *index_options(indexes),
            *(["--offline"] if offline else []),
            "--python",
            str(python),
        ]
        return [*self.common(), "pip", "install", *options, "-r", str(requirements)]

    def resolve_argv(self, requirements: Path, constraints: Path, indexes: Indexes = OWN) -> list[str]:
        """Return the argument vector that resolves requirements."""
        options = ["--no-header", "--no-annotate", "--no-strip-markers", "--quiet", *index_options(indexes)]
        return [
            *self.common(),
            *["pip", "compile", str(requirements), "-c", str(constraints), "--python", str(self.python), *options],
        ]

    def answer_argv(
        self, files: QuestionFiles, indexes: Indexes = OWN, *, platform: str = "", python: str = ""
    ) -> list[str]:
        """Return the argument vector that answers a question.

        uv takes the versions in the output file as preferences. Without source distributions nothing is built only to
        read what it needs.
        """
        options = ["--only-binary", ":all:", "--no-header", "--annotation-style", "line", "--quiet"]
        options += ["--python-platform", platform] if platform else []
        options += ["--python-version", python] if python else []
        return [
            *self.common(),
            *["pip", "compile", str(files.requirements), "--override", str(files.overrides)],
            *["--output-file", str(files.answer), "--python", str(self.python), *options, *index_options(indexes)],
        ]

    def forget_argv(self, names: Sequence[str]) -> list[str]:
        """Return the argument vector that removes distributions from uv's cache."""
        return [*self.common(), "cache", "clean", *names]

    def install(
        self,
        environment: Path,
        requirements: Sequence[str],
        *,
        final: Path,  # noqa: ARG002  # scripts of a relocatable environment work at any path
        timeout: float,
        indexes: Indexes = OWN,
    ) -> None:
        """Install pins and wheels."""
        self._install(environment, requirements, timeout, indexes)

    def install_cached(
        self,
        environment: Path,
        requirements: Sequence[str],
        *,
        final: Path,  # noqa: ARG002
        timeout: float,
        indexes: Indexes = OWN,
    ) -> bool:
        """Install pins and wheels from uv's cache; it asks an index about each pin otherwise, also if it has them."""
        if not self.cache.exists():
            return False
        try:
            self._install(environment, requirements, timeout, indexes, offline=True)
        except LayerError:
            return False
        return True

    def _install(
        self, environment: Path, requirements: Sequence[str], timeout: float, indexes: Indexes, *, offline: bool = False
    ) -> None:
        pins = environment.parent / "requirements.txt"
        pins.write_text("\n".join(requirements))
        argv = self.install_argv(environment, pins, indexes, offline=offline)
        env = self.environment(environment.parent, indexes)
        call(argv, "install", requirements, timeout=timeout, temporary=environment.parent, env=env)

    def resolve(
        self, requirements: Sequence[str], constraints: Sequence[str], *, timeout: float, indexes: Indexes = OWN
    ) -> tuple[str, ...]:
        """Return exact pins for requirements and their dependencies."""
        with resolving(self.cache, requirements, constraints) as (inputs, bounds):
            argv = self.resolve_argv(inputs, bounds, indexes)
            env = self.environment(inputs.parent, indexes)
            printed = call(argv, "resolve", requirements, timeout=timeout, temporary=inputs.parent, env=env)
        lines = (line.partition(";")[0].strip() for line in printed.splitlines())
        return tuple(line for line in lines if "==" in line)

    def answer(self, question: Question, *, timeout: float, indexes: Indexes = OWN) -> dict[str, Pinned]:
        """Return what there is for this platform of the packages of a question."""
        with asking(self.cache, question) as files:
            env = self.environment(files.answer.parent, indexes)
            places = [env.get("UV_FIND_LINKS", ""), files.stand_ins.as_uri()]
            env["UV_FIND_LINKS"] = ",".join(filter(None, places))
            argv = self.answer_argv(files, indexes, platform=question.platform, python=question.python)
            call(argv, "resolve", question.more, timeout=timeout, temporary=files.answer.parent, env=env)
            return answer_of(files.answer.read_text())

    def forget(self, names: Sequence[str], *, work: Path, timeout: float) -> None:
        """Remove distributions from uv's cache: a file that was changed in a layer may be the same file there."""
        call(self.forget_argv(names), "install", (), timeout=timeout, temporary=work, env=self.environment(work))


def index_options(indexes: Indexes) -> list[str]:
    """Return uv's options for the indexes, which hold no URL: other users of the machine see command lines."""
    strategy = ["--index-strategy", "unsafe-best-match"] if indexes.equal else []
    return [*strategy, *(["--no-index"] if indexes.no_index else [])]


def index_variables(indexes: Indexes) -> dict[str, str]:
    """Return uv's environment variables for the URLs of the indexes."""
    said = {
        "UV_DEFAULT_INDEX": listed([indexes.default], " "),
        "UV_INDEX": listed(indexes.extra, " "),
        "UV_FIND_LINKS": listed(indexes.find_links, ","),
    }
    return {name: value for name, value in said.items() if value}
