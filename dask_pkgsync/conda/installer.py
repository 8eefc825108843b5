"""Runs the program that installs conda packages (`conda.program`), and reads its answer."""

from __future__ import annotations

import json
import os
import pkgutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_pkgsync.conda.records import record_of
from dask_pkgsync.installers.calls import explain, last_words
from dask_pkgsync.installers.programs import DeadlineExceededError, run
from dask_pkgsync.model.child_environment import child_environment
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_pkgsync.model.environments.conda import CondaPackage


@dataclass(frozen=True)
class Wanted:
    """A package to install, and where its archive may come from."""

    package: CondaPackage
    places: tuple[str, ...]
    """Where its archive may be, relative to the directory of the archives: ``<digest>/<file name>``. What is downloaded
    comes into the first one."""
    url: str = ""
    """Where it may be downloaded from; empty if the channel may not be asked."""


@dataclass(frozen=True)
class Answer:
    """What the program has found and done. It has installed if nothing stood in the way."""

    subdir: str = ""
    """The platform of this node as channels name it, for example ``linux-64``."""
    virtual: Mapping[str, list[str]] = field(default_factory=dict)
    """Version and build of each virtual package of this node, by name, for example ``__glibc``."""
    unmet: Sequence[tuple[str, str]] = ()
    """Name and requirement of each package that needs another virtual package."""
    needed: int = 0
    """Bytes that are needed on the disk."""
    free: int = 0
    """Bytes that are free there."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why there is no archive, by the name of the package."""
    installed: bool = False


@dataclass(frozen=True)
class CondaInstaller:
    """py-rattler in a process of its own."""

    tool: Path
    """The directory that holds py-rattler."""
    root: Path
    """The directory that all prefixes of this host share: unpacked packages, and archives on their way there."""
    timeout: float
    """Seconds that one run may take."""
    python: Path = Path(sys.executable)
    """The interpreter that runs it."""

    @property
    def packages(self) -> Path:
        """The package cache: unpacked packages, whose files are linked into prefixes."""
        return self.root / "packages"

    @property
    def archives(self) -> Path:
        """Archives that are not unpacked yet, in a directory for each digest."""
        return self.root / "archives"

    def argv(self, work: Path) -> list[str]:
        """Return the argument vector; the interpreter is isolated, and has no packages but the tool."""
        names = ("program.py", "request.json", "answer.json")
        return [str(self.python), "-I", "-S", *(str(work / name) for name in names)]

    def environment(self, work: Path) -> dict[str, str]:
        """Return the environment variables of the program: what says where from, and whom to trust, reaches it."""
        kept = child_environment(os.environ)
        return {**kept, "TMPDIR": str(work), "RATTLER_CACHE_DIR": str(self.root / "rattler"), "NO_COLOR": "1"}

    def install(self, wanted: Sequence[Wanted], prefix: Path, final: Path) -> Answer:
        """Install packages into a new directory, if nothing stands in the way. Blocks.

        Parameters
        ----------
        wanted : sequence of Wanted
        prefix : Path
            The directory to fill.
        final : Path
            The directory that it will be renamed to, which its files name.

        Raises
        ------
        LayerError
            If the program fails, hangs or is killed.
        """
        return _answer(
            self._asked({**self._request(wanted, prefix.parent), "prefix": str(prefix), "final": str(final)})
        )

    def solve(
        self, specs: Sequence[str], channels: Sequence[str], packages: Sequence[Wanted], work: Path
    ) -> list[dict[str, Any]]:
        """Return the records of what has to be added to packages so that they meet further specs. Blocks.

        Parameters
        ----------
        specs : sequence of str
            Match specs.
        channels : sequence of str
            Names or URLs of the channels to look in.
        packages : sequence of Wanted
            What is there, and stays as it is.
        work : Path
            A directory for temporary files.

        Raises
        ------
        LayerError
            If there is no solution, or a channel cannot be asked.
        """
        request = {**self._request(packages, work), "specs": list(specs), "channels": list(channels)}
        solved = self._asked(request, "resolve").get("solved")
        return solved if isinstance(solved, list) else []

    def read_lock(self, path: Path, environment: str, work: Path) -> dict[str, Any]:
        """Return what a lock file of pixi or conda-lock has for this platform in one of its environments. Blocks.

        Parameters
        ----------
        path : Path
        environment : str
            For example ``default``.
        work : Path
            A directory for temporary files.

        Returns
        -------
        dict
            ``environments``, all their names; ``subdir``, the name of this platform; if the environment is there:
            ``platforms``, all that it has; ``conda``, records; ``pypi``, names, versions and digests.

        Raises
        ------
        LayerError
            If py-rattler cannot read the file.
        """
        return self._asked({**self._request((), work), "lock": str(path), "environment": environment})

    def _asked(self, request: dict[str, Any], step: str = "install") -> dict[str, Any]:
        """Let the program answer a request."""
        work = Path(request["work"])
        self.packages.mkdir(parents=True, exist_ok=True)
        self.archives.mkdir(exist_ok=True)
        answer = work / "answer.json"
        answer.unlink(missing_ok=True)
        (work / "program.py").write_bytes(program_text())
        (work / "request.json").write_text(json.dumps(request))
        returncode, output = self._run(work)
        try:
            said = json.loads(answer.read_text())
        except (OSError, ValueError):  # it was killed, or could not even begin
            said = {"failed": output}
        if "failed" in said:
            raise _unsolved(said["failed"]) if step == "resolve" else _failure(returncode, said["failed"], output)
        return dict(said)

    def _request(self, wanted: Sequence[Wanted], work: Path) -> dict[str, Any]:
        packages = [
            {
                "record": record_of(one.package),
                "places": one.places,
                "url": one.url,
                "installed-size": one.package.installed_size,
            }
            for one in wanted
        ]
        places = {"work": work, "cache": self.packages, "archives": self.archives, "tool": self.tool}
        return {**{name: str(path) for name, path in places.items()}, "packages": packages}

    def _run(self, work: Path) -> tuple[int, str]:
        """Run the program; return its exit status and what it printed."""
        try:
            finished = run(self.argv(work), timeout=self.timeout, env=self.environment(work), cwd=work)
        except DeadlineExceededError as error:
            raise LayerError(
                "install",
                f"the installer of conda packages did not end within {error.timeout:g} s and was killed",
                advice="Find out why it hangs (often the channel, or a proxy), or raise install-timeout.",
                last_words=last_words(error.stderr),
            ) from None
        except OSError as error:
            raise LayerError("install", f"{self.python} could not be started: {error.strerror}") from None
        return finished.returncode, finished.stderr or finished.stdout


def program_text() -> bytes:
    """Return the text of the program, which may lie in an archive."""
    text = pkgutil.get_data("dask_pkgsync.conda", "program.py")
    assert text is not None  # noqa: S101  # each loader of this package can read its files
    return text


def _answer(said: dict[str, Any]) -> Answer:
    needed, free = said.get("room", (0, 0))
    unmet = tuple((name, spec) for name, spec in said.get("unmet", ()))
    missing, installed = said.get("missing", {}), said.get("installed", False)
    return Answer(said["subdir"], said["virtual"], unmet, needed, free, missing, installed)


def _unsolved(failed: str) -> LayerError:
    return LayerError(
        "resolve",
        "the conda packages named in extra cannot be added to the environment as it is",
        advice="Name other versions, or a channel that has them and that this node can ask; or install them in your "
        "own environment, and sync.",
        last_words=last_words(failed),
    )


def _failure(returncode: int, failed: str, output: str) -> LayerError:
    problem, advice, index_at_fault = explain(returncode, failed or output)
    if index_at_fault or problem.startswith("the installer failed"):  # what uv or pip would mean by that
        problem = "py-rattler could not install the packages"
        advice = (
            "Run the sync again. If it fails again, remove the directory conda in dask-pkgsync's cache directory on "
            "that node."
        )
    return LayerError("install", problem, advice=advice, last_words=last_words(failed or output))
