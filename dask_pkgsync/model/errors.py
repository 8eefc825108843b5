"""Every error that dask-pkgsync raises, and the sentence each one says."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dask_pkgsync.model.comparison import Comparison


class PkgsyncError(Exception):
    """Root of all errors of dask-pkgsync."""


class EnvironmentMismatchError(PkgsyncError, ImportError):
    """Two environments differ in a package that must be the same everywhere.

    Also an `ImportError`, because that is what Dask's own handshake raises for a refused client.

    Attributes
    ----------
    comparison : Comparison
        Every difference, critical ones first.
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison)
        self.comparison = comparison

    def __str__(self) -> str:
        """Say what differs and what to do."""
        ours, theirs = self.comparison.expected_label, self.comparison.found_label
        critical = " in packages that must be the same everywhere" if self.comparison.only_critical else ""
        return (
            f"The environment of the {theirs} does not match the {ours}{critical}.\n\n{self.comparison}\n\n"
            f"Install the versions of the {ours} on the {theirs}, or the other way round, and connect again."
        )


class ConflictError(PkgsyncError):
    """Another client has set what the cluster is to have, is still connected, and it does not go together with this.

    Attributes
    ----------
    owner : str
        Who that is, for example ``ann@laptop``.
    comparison : Comparison
        Every difference that is in the way.
    """

    def __init__(self, owner: str, comparison: Comparison) -> None:
        super().__init__(owner, comparison)
        self.owner, self.comparison = owner, comparison

    def __str__(self) -> str:
        """Say who, what, and which choices there are."""
        return harmless(
            f"This cluster has the environment of {self.owner}, who is still connected, and yours conflicts with it. "
            f"Nothing was changed.\n\n{self.comparison}\n\n"
            "Your choices (for Client(...) configure pkgsync.on-conflict, pkgsync.modules, pkgsync.ignore):\n"
            + "\n".join(f"- {choice}" for choice in self._choices())
        )

    def _choices(self) -> Iterator[str]:
        names = [row.name for row in self.comparison]
        loose = [name for name in names if name.startswith("module-")]
        if loose:
            yield (
                f"{', '.join(loose)}, from beside a script or from PYTHONPATH: where your tasks do not need yours, "
                "name\n  in modules=[...] what they need, else give yours another name"
            )
        if len(loose) < len(names):
            yield "install the versions of the cluster, or name these packages in ignore"
        yield f"let {self.owner} close their client, or wait for that: on_conflict='wait'"
        yield "take their environment away: on_conflict='replace' (their workers may be restarted)"


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


def shown(value: object, limit: int = 120) -> str:
    """Return what another process sent in so many characters at most, without a look at all of it."""
    text = value if isinstance(value, str) else _sketch(value, 3)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _sketch(value: object, depth: int) -> str:
    """Do what `repr` does for a part of a value: it takes long for large ones, and raises for deep ones."""
    if isinstance(value, str | bytes):
        return repr(value[:120])
    if value is None or isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= 64):  # noqa: PLR2004
        return repr(value)
    if depth and isinstance(value, dict):
        pairs = islice(value.items(), 10)
        return f"{{{', '.join(f'{_sketch(key, 0)}: {_sketch(one, depth - 1)}' for key, one in pairs)}}}"
    if depth and isinstance(value, list | tuple):
        return f"[{', '.join(_sketch(one, depth - 1) for one in islice(value, 10))}]"
    return f"a {type(value).__name__}"


class PolicyError(PkgsyncError, ValueError):
    """The options contradict each other or name something impossible."""


class WarnsOnlyError(PolicyError):
    """The cluster's operator has configured that it only compares, and installs nothing."""

    def __str__(self) -> str:
        """Say so."""
        return "this cluster is configured to install nothing (pkgsync.mode is warn): it only compares"


class RestartNeededError(PkgsyncError):
    """A worker cannot take its layer live; only its nanny sees this."""


class LayerError(PkgsyncError):
    """A node could not be given its layer.

    Attributes
    ----------
    step : str
        What was being done, for example ``"install"``.
    problem : str
        One sentence: what happened.
    advice : str
        What the person can do now.
    last_words : str
        The end of the installer's own output, empty if no installer ran.
    packages : tuple of str
        The requirements that the installer blames, as far as it names them.
    index_at_fault : bool
        Whether the index, not the node, is why: then the client may have what the index does not give. Stays in its
        process.
    """

    def __init__(
        self,
        step: str,
        problem: str,
        *,
        advice: str = "",
        last_words: str = "",
        packages: tuple[str, ...] = (),
        index_at_fault: bool = False,
    ) -> None:
        super().__init__(step, problem, advice, last_words, packages)
        self.step, self.problem, self.advice = step, problem, advice
        self.last_words, self.packages = last_words, packages
        self.index_at_fault = index_at_fault

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the fields."""
        return _layer_error, (self.step, self.problem, self.advice, self.last_words, self.packages)

    def __str__(self) -> str:
        """Say what happened, what the installer said, and what to do."""
        return str(NodeFailure("", self.step, self.problem, self.advice, self.last_words, self.packages))


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


class EnvironmentMismatchWarning(UserWarning):
    """The cluster has other packages than this client, and its operator wants that to be told only.

    Attributes
    ----------
    comparison : Comparison
        Every difference, critical ones first.
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison)
        self.comparison = comparison

    def __str__(self) -> str:
        """List the differences."""
        return (
            "this cluster has other packages than this client, and is configured to install nothing (pkgsync.mode is "
            f"warn):\n{self.comparison}"
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


def _layer_error(step: str, problem: str, advice: str, last_words: str, packages: tuple[str, ...]) -> LayerError:
    return LayerError(step, problem, advice=advice, last_words=last_words, packages=packages)


@dataclass(frozen=True)
class NodeFailure:
    """Why one node does not have the target."""

    node: str
    """Address of the node, for example ``tcp://10.0.0.3:40331``; empty where only one node is spoken of."""
    step: str
    """What was being done: scan, resolve, install, verify, activate, restart."""
    problem: str
    """One sentence that says what happened."""
    advice: str = ""
    """What the person can do now."""
    last_words: str = ""
    """The end of the installer's own output."""
    packages: tuple[str, ...] = ()
    """The requirements that the installer blames, for example ``("numpy==1.99",)``."""

    def __str__(self) -> str:
        """Lay the fields out for reading."""
        head = f"{self.node}: " if self.node else ""
        lines = [f"{head}{self.step}: {self.problem}"]
        if self.packages:
            lines.append(f"  packages: {', '.join(self.packages)}")
        if self.last_words:
            lines += ["  the installer's last words:", *(f"  | {line}" for line in self.last_words.splitlines())]
        if self.advice:
            lines.append(f"  what to do: {self.advice}")
        return harmless("\n".join(lines))


def harmless(text: str) -> str:
    """Return a text of several lines without what a terminal would obey: it may come from another machine."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)


class SyncError(PkgsyncError):
    """Some nodes could not be made to match the target.

    Attributes
    ----------
    failures : dict of str to NodeFailure
        Node address to the reason.
    adopted : bool
        True if the other nodes have the target and the failed ones left the cluster; False if nothing was changed.
    """

    def __init__(self, failures: Mapping[str, NodeFailure], *, adopted: bool = False) -> None:
        super().__init__(dict(failures), adopted)
        self.failures = dict(failures)
        self.adopted = adopted

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the fields."""
        return _sync_error, (self.failures, self.adopted)

    def __str__(self) -> str:
        """List every failed node; the same reason on several nodes is told once."""
        groups: dict[NodeFailure, list[str]] = {}
        for node, failure in self.failures.items():
            bare = NodeFailure("", failure.step, failure.problem, failure.advice, failure.last_words, failure.packages)
            groups.setdefault(bare, []).append(node)
        outcome = (
            "The other nodes have your environment; these have left the cluster."
            if self.adopted
            else "No node was changed; the cluster is as it was."
        )
        parts = [f"{', '.join(nodes)}\n{failure}" for failure, nodes in groups.items()]
        count = len(self.failures)
        return f"{count} {'node' if count == 1 else 'nodes'} could not be synced. {outcome}\n\n" + "\n\n".join(parts)


def _sync_error(failures: dict[str, NodeFailure], adopted: bool) -> SyncError:  # noqa: FBT001
    return SyncError(failures, adopted=adopted)
