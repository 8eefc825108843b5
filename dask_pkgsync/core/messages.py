"""What crosses the wire, as plain lists and dictionaries, checked in full before anything looks at it.

Each ``…_to_wire`` has a ``…_from_wire`` that raises `MessageError` for whatever it does not know: an unknown schema,
an unknown or missing key, a name that is no name (PEP 503), a version that is no version (PEP 440), a text that is too
long or holds control characters. So nothing that an installer could read as an option or a path gets past here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from dask_pkgsync.core.environment import (
    SCHEMA,
    Distribution,
    Environment,
    Fault,
    FromArchive,
    FromDirectory,
    FromIndex,
    FromVcs,
    Interpreter,
    Unrecorded,
    canonical_name,
)
from dask_pkgsync.core.errors import MessageError, NodeFailure, PolicyError
from dask_pkgsync.core.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.core.environment import Origin

MAX_TEXT = 2_000
"""Characters in one text."""
MAX_LONG_TEXT = 20_000
"""Characters in an installer's last words."""
MAX_ITEMS = 20_000
"""Entries in one list: more distributions than any environment has."""


@dataclass(frozen=True)
class Field:
    """A value from another process, with its place, that answers only in the types asked of it."""

    value: Any
    place: str

    def key(self, name: str) -> Field:
        """Return an entry of a dictionary."""
        if not isinstance(self.value, dict):
            raise MessageError(self.place, "a dictionary", self.value)
        if name not in self.value:
            raise MessageError(self.place, f"the key {name!r}", list(self.value)[:20])
        return Field(self.value[name], f"{self.place}.{name}")

    def only(self, *names: str) -> Field:
        """Refuse a dictionary with other keys."""
        if not isinstance(self.value, dict):
            raise MessageError(self.place, "a dictionary", self.value)
        if unknown := [key for key in self.value if key not in names]:
            raise MessageError(self.place, f"only the keys {', '.join(names)}", unknown[:5])
        return self

    def items(self) -> Iterator[Field]:
        """Return the entries of a list."""
        if not isinstance(self.value, list | tuple):
            raise MessageError(self.place, "a list", self.value)
        if len(self.value) > MAX_ITEMS:
            raise MessageError(self.place, f"at most {MAX_ITEMS} entries", f"{len(self.value)} entries")
        return (Field(value, f"{self.place}[{index}]") for index, value in enumerate(self.value))

    def row(self, length: int) -> list[Field]:
        """Return the entries of a list of a fixed length."""
        parts = list(self.items())
        if len(parts) != length:
            raise MessageError(self.place, f"a list of {length}", f"{len(parts)} entries")
        return parts

    def text(self, limit: int = MAX_TEXT) -> str:
        """Return a text on one line."""
        found = self.long_text(limit)
        if not found.isprintable():
            raise MessageError(self.place, "one line of printable text", found)
        return found

    def long_text(self, limit: int = MAX_LONG_TEXT) -> str:
        """Return a text of several lines."""
        if not isinstance(self.value, str):
            raise MessageError(self.place, "text", self.value)
        if len(self.value) > limit:
            raise MessageError(self.place, f"at most {limit} characters", f"{len(self.value)} characters")
        return self.value

    def number(self) -> float:
        """Return a finite number that is not negative."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise MessageError(self.place, "a number", self.value)
        if not 0 <= self.value <= sys.float_info.max:
            raise MessageError(self.place, "a finite number that is not negative", self.value)
        return float(self.value)

    def flag(self) -> bool:
        """Return a truth value."""
        if not isinstance(self.value, bool):
            raise MessageError(self.place, "true or false", self.value)
        return self.value

    def name(self) -> str:
        """Return the canonical name of a distribution."""
        found = self.text(200)
        try:
            canonical = canonical_name(found)
        except ValueError:
            raise MessageError(self.place, "the name of a distribution (PEP 503)", found) from None
        if canonical != found:
            raise MessageError(self.place, f"a canonical name ({canonical})", found)
        return found

    def version(self) -> str:
        """Return a version."""
        found = self.text(200)
        try:
            parsed = Version(found)
        except InvalidVersion:
            raise MessageError(self.place, "a version (PEP 440)", found) from None
        if not found.isascii() or found.strip() != found:
            raise MessageError(self.place, f"a version without spaces ({parsed})", found)
        return found

    def schema(self) -> None:
        """Refuse another schema than ours."""
        found = self.key("schema").value
        if isinstance(found, bool) or found != SCHEMA:
            raise MessageError(f"{self.place}.schema", f"{SCHEMA} (install the same dask-pkgsync on both sides)", found)


def environment_to_wire(environment: Environment) -> dict[str, Any]:
    """Return an environment as plain data."""
    interpreter = environment.interpreter
    return {
        "schema": SCHEMA,
        "interpreter": [interpreter.implementation, interpreter.version, interpreter.platform, interpreter.tag],
        "distributions": [
            [d.name, d.version, _origin_to_wire(d.origin), d.installer] for d in environment.distributions.values()
        ],
        "faults": [[fault.kind, fault.place, fault.detail, fault.name] for fault in environment.faults],
    }


def environment_from_wire(data: object, place: str = "environment") -> Environment:
    """Check and read what `environment_to_wire` wrote."""
    field = Field(data, place)
    field.schema()
    field.only("schema", "interpreter", "distributions", "faults")
    implementation, version, platform, tag = (part.text(200) for part in field.key("interpreter").row(4))
    Field(version, f"{place}.interpreter[1]").version()
    distributions = [_distribution(entry) for entry in field.key("distributions").items()]
    names = {distribution.name for distribution in distributions}
    if len(names) != len(distributions):
        raise MessageError(f"{place}.distributions", "each name once", f"{len(distributions) - len(names)} repeated")
    faults = tuple(Fault(*(part.text() for part in entry.row(4))) for entry in field.key("faults").items())
    return Environment.of(Interpreter(implementation, version, platform, tag), distributions, faults)


def _distribution(entry: Field) -> Distribution:
    name, version, origin, installer = entry.row(4)
    return Distribution(name.name(), version.version(), _origin_from_wire(origin), installer.text(200))


def _origin_to_wire(origin: Origin) -> list[Any]:
    match origin:
        case FromIndex():
            return ["index"]
        case FromArchive(url, digest):
            return ["archive", url, digest]
        case FromVcs(url, commit, vcs, subdirectory):
            return ["vcs", url, commit, vcs, subdirectory]
        case FromDirectory(url, editable):
            return ["directory", url, editable]
        case Unrecorded():
            return ["unrecorded"]


def _origin_from_wire(field: Field) -> Origin:
    parts = list(field.items())
    match [parts[0].text(20) if parts else "", len(parts)]:
        case ["index", 1]:
            return FromIndex()
        case ["archive", 3]:
            return FromArchive(*(part.text() for part in parts[1:]))
        case ["vcs", 5]:
            return FromVcs(*(part.text() for part in parts[1:]))
        case ["directory", 3]:
            return FromDirectory(parts[1].text(), parts[2].flag())
        case ["unrecorded", 1]:
            return Unrecorded()
    raise MessageError(field.place, "an origin", field.value)


def policy_to_wire(policy: Policy) -> dict[str, Any]:
    """Return a policy as plain data."""
    return {
        "ignore": sorted(policy.ignore),
        "only": None if policy.only is None else sorted(policy.only),
        "extra": list(policy.extra),
        "strict": policy.strict,
        "platform-specific": sorted(policy.platform_specific),
    }


def policy_from_wire(data: object, place: str = "policy") -> Policy:
    """Check and read what `policy_to_wire` wrote."""
    field = Field(data, place).only("ignore", "only", "extra", "strict", "platform-specific")
    only = field.key("only")
    try:
        return Policy.of(
            ignore=[entry.name() for entry in field.key("ignore").items()],
            only=None if only.value is None else [entry.name() for entry in only.items()],
            extra=[entry.text() for entry in field.key("extra").items()],
            strict=field.key("strict").flag(),
            platform_specific=[entry.name() for entry in field.key("platform-specific").items()],
        )
    except PolicyError as error:
        raise MessageError(place, "options that agree", str(error)) from None


@dataclass(frozen=True)
class Target:
    """The environment that the cluster is to have, and how closely."""

    environment: Environment
    policy: Policy
    scheduler: str = "warn"
    """What to do when the scheduler has already imported another version: ``warn`` or ``refuse``."""
    install_timeout: float = 600.0
    """Seconds that one installer may take on a node."""
    client_process: str = ""
    """Token of the process that made the target, where nothing is ever changed."""

    @property
    def id(self) -> str:
        """Name of the target: equal targets have equal names, whoever made them."""
        import hashlib
        import json

        rest = [policy_to_wire(self.policy), self.scheduler]
        return hashlib.sha256(json.dumps([self.environment.fingerprint, rest]).encode()).hexdigest()

    def with_environment(self, environment: Environment) -> Target:
        """Return the same with more, or other, distributions."""
        return Target(environment, self.policy, self.scheduler, self.install_timeout, self.client_process)


def target_to_wire(target: Target) -> dict[str, Any]:
    """Return a target as plain data."""
    return {
        "schema": SCHEMA,
        "environment": environment_to_wire(target.environment),
        "policy": policy_to_wire(target.policy),
        "scheduler": target.scheduler,
        "install-timeout": target.install_timeout,
        "client-process": target.client_process,
    }


def target_from_wire(data: object, place: str = "target") -> Target:
    """Check and read what `target_to_wire` wrote."""
    field = Field(data, place)
    field.schema()
    field.only("schema", "environment", "policy", "scheduler", "install-timeout", "client-process")
    scheduler = field.key("scheduler").text(20)
    if scheduler not in ("warn", "refuse"):
        raise MessageError(f"{place}.scheduler", "warn or refuse", scheduler)
    return Target(
        environment_from_wire(field.key("environment").value, f"{place}.environment"),
        policy_from_wire(field.key("policy").value, f"{place}.policy"),
        scheduler,
        field.key("install-timeout").number(),
        field.key("client-process").text(200),
    )


def failure_to_wire(failure: NodeFailure) -> dict[str, Any]:
    """Return a failure as plain data."""
    return {
        "node": failure.node,
        "step": failure.step,
        "problem": failure.problem,
        "advice": failure.advice,
        "last-words": failure.last_words[-MAX_LONG_TEXT:],
        "packages": list(failure.packages),
    }


def failure_from_wire(data: object, place: str = "failure") -> NodeFailure:
    """Check and read what `failure_to_wire` wrote."""
    field = Field(data, place).only("node", "step", "problem", "advice", "last-words", "packages")
    return NodeFailure(
        field.key("node").text(),
        field.key("step").text(),
        field.key("problem").long_text(),
        field.key("advice").long_text(),
        field.key("last-words").long_text(),
        tuple(entry.text() for entry in field.key("packages").items()),
    )
