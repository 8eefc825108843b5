"""The root of all errors of dask-pkgsync, and the errors and warnings that belong to no narrower subject."""

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
        Path of the faulty value in the message, for example ``target.environment.distributions[3].name``.
    expected : str
        What the protocol allows in that place.
    found : str
        The value that was there, shortened.
    """

    def __init__(self, place: str, expected: str, found: object) -> None:
        text = shown(found)
        super().__init__(place, expected, text)
        self.place, self.expected, self.found = place, expected, text

    def __str__(self) -> str:
        """Name the place, what the protocol allows there, and what was found."""
        return f"malformed message at {self.place}: expected {self.expected}, found {self.found!r}"


class PolicyError(PkgsyncError, ValueError):
    """An option has an invalid value, or two options contradict each other."""


class WarnsOnlyError(PolicyError):
    """The operator of the cluster has set ``pkgsync.mode`` to ``warn``: the cluster compares but installs nothing."""

    def __str__(self) -> str:
        """Name the mode and its consequence."""
        return "this cluster is configured to install nothing (pkgsync.mode is warn): it only compares"


class RestartNeededError(PkgsyncError):
    """A worker cannot activate its layer live and must be restarted. Its nanny catches this error."""


class InconsistentEnvironmentWarning(UserWarning):
    """A distribution in the client's environment lacks a requirement; the cluster gets the environment all the same.

    Attributes
    ----------
    conflicts : tuple of str
        One sentence for each unmet requirement, for example ``pandas 2.2.3 requires numpy>=1.26, and 1.25.0 is
        installed``.
    """

    def __init__(self, conflicts: tuple[str, ...]) -> None:
        super().__init__(conflicts)
        self.conflicts = conflicts

    def __str__(self) -> str:
        """List the conflicts."""
        listed = "\n".join(f"  {conflict}" for conflict in self.conflicts)
        return (
            "this environment does not satisfy the requirements of its own packages; the cluster gets it as it is. "
            f"To resolve this, install or remove the packages named here:\n{listed}"
        )


class WheelError(PkgsyncError):
    """A package of the client cannot be made into a wheel, or a wheel is not what its name or digest says.

    Attributes
    ----------
    package : str
        Name, or name and version, of the package.
    problem : str
        One sentence that says what is wrong.
    advice : str
        What the user can do now.
    last_words : str
        The end of the build backend's output, empty if no build ran.
    """

    def __init__(self, package: str, problem: str, *, advice: str = "", last_words: str = "") -> None:
        super().__init__(package, problem, advice, last_words)
        self.package, self.problem, self.advice, self.last_words = package, problem, advice, last_words

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the fields."""
        return _wheel_error, (self.package, self.problem, self.advice, self.last_words)

    def __str__(self) -> str:
        """Name the package, the problem, the end of the build backend's output, and what to do."""
        lines = [f"{self.package}: {self.problem}"]
        if self.last_words:
            lines += ["  the last words of the build:", *(f"  | {line}" for line in self.last_words.splitlines())]
        if self.advice:
            lines.append(f"  what to do: {self.advice}")
        return harmless("\n".join(lines))


def _wheel_error(package: str, problem: str, advice: str, last_words: str) -> WheelError:
    return WheelError(package, problem, advice=advice, last_words=last_words)
