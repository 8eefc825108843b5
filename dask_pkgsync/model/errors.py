"""Every error that dask-pkgsync raises, and the sentence each one says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.text import harmless, shown

if TYPE_CHECKING:
    from typing import Any


class PkgsyncError(Exception):
    """Root of all errors of dask-pkgsync."""


class MessageError(PkgsyncError, ValueError):
    """Data from another process is not what the protocol allows.

    Attributes
    ----------
    place : str
        Where in the message, for example ``target.environment.distributions[3].name``.
    expected, found : str
        What the protocol allows there, and what was there (shortened).
    """

    def __init__(self, place: str, expected: str, found: object) -> None:
        text = shown(found)
        super().__init__(place, expected, text)
        self.place, self.expected, self.found = place, expected, text

    def __str__(self) -> str:
        """Say where, what was expected, what was found."""
        return f"malformed message at {self.place}: expected {self.expected}, found {self.found!r}"


class PolicyError(PkgsyncError, ValueError):
    """The options contradict each other or name something impossible."""


class WarnsOnlyError(PolicyError):
    """The cluster's operator has configured that it only compares, and installs nothing."""

    def __str__(self) -> str:
        """Say so."""
        return "this cluster is configured to install nothing (pkgsync.mode is warn): it only compares"


class RestartNeededError(PkgsyncError):
    """A worker cannot take its layer live; only its nanny sees this."""


class InconsistentEnvironmentWarning(UserWarning):
    """The client's environment does not satisfy its own requirements; it is replicated as it is.

    Attributes
    ----------
    conflicts : tuple of str
        Each as a sentence, for example ``pandas 2.2.3 requires numpy>=1.26, and 1.25.0 is installed``.
    """

    def __init__(self, conflicts: tuple[str, ...]) -> None:
        super().__init__(conflicts)
        self.conflicts = conflicts

    def __str__(self) -> str:
        """List the conflicts."""
        listed = "\n".join(f"  {conflict}" for conflict in self.conflicts)
        return (
            "this environment does not satisfy its own requirements; the cluster gets it as it is. Installing or "
            f"removing what is named here settles it:\n{listed}"
        )


class NotInstalledWarning(UserWarning):
    """An option names packages that the client does not have: perhaps they are misspelt.

    Attributes
    ----------
    names : tuple of str
        As they were given, in canonical spelling.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.names = names

    def __str__(self) -> str:
        """Say which, and what that means."""
        return f"only: not installed here, so that nothing is shipped for it: {', '.join(self.names)}"


class WheelError(PkgsyncError):
    """A package of the client cannot be made into a wheel, or a wheel is not what it says it is.

    Attributes
    ----------
    package : str
        Name, or name and version, of the package.
    problem : str
        One sentence: what is wrong.
    advice : str
        What the person can do now.
    last_words : str
        The end of the build backend's own output, empty if nothing was built.
    """

    def __init__(self, package: str, problem: str, *, advice: str = "", last_words: str = "") -> None:
        super().__init__(package, problem, advice, last_words)
        self.package, self.problem, self.advice, self.last_words = package, problem, advice, last_words

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the fields."""
        return _wheel_error, (self.package, self.problem, self.advice, self.last_words)

    def __str__(self) -> str:
        """Say what is wrong with which package, what its build backend said, and what to do."""
        lines = [f"{self.package}: {self.problem}"]
        if self.last_words:
            lines += ["  the last words of the build:", *(f"  | {line}" for line in self.last_words.splitlines())]
        if self.advice:
            lines.append(f"  what to do: {self.advice}")
        return harmless("\n".join(lines))


def _wheel_error(package: str, problem: str, advice: str, last_words: str) -> WheelError:
    return WheelError(package, problem, advice=advice, last_words=last_words)
