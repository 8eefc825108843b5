"""An environment as data: an interpreter, its distributions, and the fingerprint of both."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from packaging.utils import canonicalize_name, canonicalize_version
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA = 1
"""Version of the form of an environment, in files and on the wire."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def canonical_name(text: str) -> str:
    """Return the canonical spelling (PEP 503) of the name of a distribution.

    ``canonicalize_name(validate=True)`` exists from packaging 23.2 only; a node has the one that it has.

    Raises
    ------
    ValueError
        If it is no name.
    """
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a distribution")
    return str(canonicalize_name(text))


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What decides which wheels fit."""

    implementation: str
    """`sys.implementation.name`, for example ``cpython``."""
    version: str
    """Full version, for example ``3.11.7``."""
    platform: str
    """`sysconfig.get_platform`, for example ``linux-x86_64``."""
    tag: str
    """The most specific wheel tag (PEP 425), for example ``cp311-cp311-manylinux_2_36_x86_64``; empty if unknown."""

    @property
    def feature_version(self) -> str:
        """Major and minor version, for example ``3.11``."""
        return ".".join(self.version.split(".")[:2])

    def same_platform(self, other: Interpreter) -> bool:
        """Whether the same binary wheels fit both (same implementation, X.Y, ABI, system and processor)."""
        mine = (self.implementation, self.feature_version, self.platform)
        if mine != (other.implementation, other.feature_version, other.platform):
            return False
        return not (self.tag and other.tag) or self._abi_and_libc == other._abi_and_libc

    @property
    def _abi_and_libc(self) -> tuple[str, bool]:
        """Free-threaded builds and musl share the platform of the others; only the tag tells that wheels differ."""
        _, _, rest = self.tag.partition("-")
        abi, _, system = rest.partition("-")
        return abi, system.startswith("musllinux")


@dataclass(frozen=True, slots=True)
class FromIndex:
    """Installed from an index or a directory of wheels; name and version say which."""


@dataclass(frozen=True, slots=True)
class FromArchive:
    """Installed from an archive at a URL (PEP 610 ``archive_info``)."""

    url: str
    """Without credentials."""
    digest: str = ""
    """``sha256=…`` of the archive where it was recorded; else ``record=…``, of the list of its installed files."""


@dataclass(frozen=True, slots=True)
class FromVcs:
    """Installed from version control (PEP 610 ``vcs_info``)."""

    url: str
    """Without credentials."""
    commit: str
    """The exact commit."""
    vcs: str = "git"
    subdirectory: str = ""


@dataclass(frozen=True, slots=True)
class FromDirectory:
    """Installed from a directory on that machine (PEP 610 ``dir_info``)."""

    url: str
    """A ``file:`` URL."""
    editable: bool = False
    digest: str = ""
    """``source=…``, of what the directory holds (editable), or ``record=…``, of the list of the installed files."""


@dataclass(frozen=True, slots=True)
class FromModules:
    """Loose modules: importable code of one directory that belongs to no distribution."""

    url: str
    """A ``file:`` URL of the directory."""
    digest: str = ""
    """``source=…``, of the modules and their data."""


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Nothing recorded where it came from (a bare egg-info, a system package)."""


Origin: TypeAlias = FromIndex | FromArchive | FromVcs | FromDirectory | FromModules | Unrecorded


def identity(origin: Origin) -> str:
    """Return what tells two packages of one name and version apart: a commit or a digest; empty for an index's."""
    match origin:
        case FromVcs(commit=commit):
            return commit
        case FromArchive(digest=digest) | FromDirectory(digest=digest) | FromModules(digest=digest):
            return digest
        case _:
            return ""


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed package."""

    name: str
    """Canonical (PEP 503), for example ``scikit-learn``."""
    version: str
    """As its metadata says it (PEP 440), for example ``1.5.2``."""
    origin: Origin = FromIndex()
    installer: str = ""
    """INSTALLER (PEP 376), for example ``uv`` or ``conda``."""

    @property
    def identity(self) -> str:
        """What tells it apart from others of its name and version; empty for what an index has."""
        return identity(self.origin)

    @property
    def label(self) -> str:
        """Its version for tables, with what tells it apart, for example ``1.2 (git 3f2a9c1d)``."""
        match self.origin:
            case FromVcs(vcs=vcs, commit=commit):
                return f"{self.version} ({vcs} {commit[:8]})"
            case FromDirectory(editable=True, digest=digest):
                return f"{self.version} (editable {_short(digest)})"
            case FromDirectory(digest=digest) | FromArchive(digest=digest):
                return f"{self.version} (file {_short(digest)})"
            case _:
                return self.version

    def same_version(self, version: str) -> bool:
        """Compare as PEP 440 does: ``1.0`` is ``1.0.0``."""
        return self.version == version or Version(self.version) == Version(version)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in an environment that cannot be trusted, and is never counted as a match."""

    kind: str
    """``duplicate``, ``broken``, ``stray`` or ``unreadable``."""
    place: str
    """Path of the metadata or directory."""
    detail: str
    """One sentence for people."""
    name: str = ""
    """Canonical name of the distribution, as far as it is known."""


@dataclass(frozen=True)
class Environment:
    """An interpreter and what can be imported in it."""

    interpreter: Interpreter
    distributions: Mapping[str, Distribution]
    """Canonical name to distribution."""
    faults: tuple[Fault, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        ordered = dict(sorted(self.distributions.items()))
        object.__setattr__(self, "distributions", MappingProxyType(ordered))

    def __hash__(self) -> int:
        """Hash by fingerprint: equal environments have equal ones."""
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with a plain dictionary: a mapping proxy cannot be pickled."""
        return Environment, (self.interpreter, dict(self.distributions), self.faults)

    @classmethod
    def of(
        cls, interpreter: Interpreter, distributions: Iterable[Distribution], faults: Iterable[Fault] = ()
    ) -> Environment:
        """Make one from distributions; the first of a name wins, as the import system has it."""
        by_name: dict[str, Distribution] = {}
        for distribution in distributions:
            by_name.setdefault(distribution.name, distribution)
        return cls(interpreter, by_name, tuple(faults))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical form, 64 hexadecimal digits.

        Interpreter, names, versions, commits and the digests of local code count. Who installed it and from which
        path or URL does not: the same wheel from a mirror is the same package.
        """
        interpreter = self.interpreter
        rows = [(d.name, canonicalize_version(d.version), d.identity) for d in self.distributions.values()]
        canonical = [
            SCHEMA,
            [interpreter.implementation, interpreter.version, interpreter.platform],
            rows,
        ]
        return hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode()).hexdigest()

    def faulty(self, name: str) -> Fault | None:
        """Return the fault that makes this distribution untrustworthy, if there is one."""
        return self._faults_by_name.get(name)

    @cached_property
    def _faults_by_name(self) -> dict[str, Fault]:
        return {fault.name: fault for fault in reversed(self.faults) if fault.kind != "stray"}

    def to_json(self) -> str:
        """Write as JSON; the inverse of `from_json`."""
        from dask_pkgsync.model.target import environment_to_wire

        return json.dumps(environment_to_wire(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Environment:
        """Read what `to_json` wrote.

        Raises
        ------
        MessageError
            If the text is not JSON, or not an environment of a schema this version knows.
        """
        from dask_pkgsync.model.errors import MessageError
        from dask_pkgsync.model.target import environment_from_wire

        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MessageError("environment", f"JSON ({error})", text) from None
        return environment_from_wire(data)


def _short(digest: str) -> str:
    return digest.partition("=")[2][:8] or "?"
