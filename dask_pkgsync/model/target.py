"""What crosses the wire, as plain lists and dictionaries, checked in full before anything looks at it.

Each ``…_to_wire`` has a ``…_from_wire`` that raises `MessageError` for whatever it does not know: an unknown schema,
an unknown or missing key, a name that is no name (PEP 503), a version that is no version (PEP 440), a text that is too
long or holds control characters. So nothing that an installer could read as an option or a path gets past here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.environments.environment import (
    SCHEMA,
    Distribution,
    Environment,
    Fault,
    FromArchive,
    FromDirectory,
    FromIndex,
    FromModules,
    FromVcs,
    Interpreter,
    Unrecorded,
)
from dask_pkgsync.model.errors import MessageError, NodeFailure, PolicyError
from dask_pkgsync.model.wire.fields import CANONICAL, MAX_LONG_TEXT, NORMAL, Field
from dask_pkgsync.model.indexes import OWN, Indexes, indexes_from_wire, indexes_to_wire
from dask_pkgsync.model.policy import Policy

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Origin

MAX_BLAMED = 100
"""Requirements that one failure names."""
TRANSPORTS = ("auto", "index", "client")
"""Where nodes get packages from."""


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
    match entry.value:
        case [str(name), str(version), ["index"], str(installer)] if _is_plain(name, version, installer):
            # What almost all are, at once: piece by piece, 5,000 of them hold a scheduler up for too long.
            return Distribution(name, version, _FROM_INDEX, installer)
        case _:
            fields = entry.row(4)
            origin, installer = _origin_from_wire(fields[2]), fields[3].text(200)
            return Distribution(fields[0].name(), fields[1].version(), origin, installer)


_FROM_INDEX = FromIndex()


def _is_plain(name: str, version: str, installer: str) -> bool:
    if max(len(name), len(version), len(installer)) > 200 or not installer.isprintable():  # noqa: PLR2004  # as below
        return False
    return bool(CANONICAL.fullmatch(name) and NORMAL.fullmatch(version))


def _origin_to_wire(origin: Origin) -> list[Any]:
    match origin:
        case FromIndex():
            return ["index"]
        case FromArchive(url, digest):
            return ["archive", url, digest]
        case FromVcs(url, commit, vcs, subdirectory):
            return ["vcs", url, commit, vcs, subdirectory]
        case FromDirectory(url, editable, digest):
            return ["directory", url, editable, digest]
        case FromModules(url, digest):
            return ["modules", url, digest]
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
        case ["directory", 4]:
            return FromDirectory(parts[1].text(), parts[2].flag(), parts[3].text(200))
        case ["modules", 3]:
            return FromModules(parts[1].text(), parts[2].text(200))
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
        "levels": [[pattern, level.value] for pattern, level in policy.levels],
    }


def policy_from_wire(data: object, place: str = "policy") -> Policy:
    """Check and read what `policy_to_wire` wrote."""
    field = Field(data, place).only("ignore", "only", "extra", "strict", "platform-specific", "levels")
    only = field.key("only")
    try:
        return Policy.of(
            ignore=[entry.name() for entry in field.key("ignore").items()],
            only=None if only.value is None else [entry.name() for entry in only.items()],
            extra=[entry.text() for entry in field.key("extra").items()],
            strict=field.key("strict").flag(),
            platform_specific=[entry.name() for entry in field.key("platform-specific").items()],
            levels=dict(_level(entry) for entry in field.key("levels").items()),
        )
    except PolicyError as error:
        raise MessageError(place, "options that agree", str(error)) from None


def _level(entry: Field) -> tuple[str, str]:
    pattern, level = entry.row(2)
    return pattern.text(200), level.text(20)


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
    transport: str = "auto"
    """``index``, ``client`` or ``auto``: where nodes get packages from (`layers.fill.Sources`)."""
    indexes: Indexes = OWN
    """The client's indexes, without credentials, for nodes that have none configured."""
    store: str = ""
    """URL where the client's wheels are (`wheels.store`); empty: on the scheduler's disk."""
    on_conflict: str = "refuse"
    """What happens where another client has set another environment: ``refuse``, ``wait`` or ``replace``."""
    restart: str = "drained"
    """What happens to workers that hold what no peer can take: ``drained``: they wait, ``now``: they are restarted."""
    keep: bool = False
    """Whether the cluster keeps this when its last client has gone."""
    owner: str = ""
    """Who made the target, for people, for example ``ann@laptop``."""

    @property
    def id(self) -> str:
        """Name of the target: equal targets have equal names, whoever made them."""
        import hashlib
        import json

        rest = [policy_to_wire(self.policy), self.scheduler]
        return hashlib.sha256(json.dumps([self.environment.fingerprint, rest]).encode()).hexdigest()

    def with_environment(self, environment: Environment) -> Target:
        """Return the same with more, or other, distributions."""
        return replace(self, environment=environment)


def target_to_wire(target: Target) -> dict[str, Any]:
    """Return a target as plain data."""
    return {
        "schema": SCHEMA,
        "environment": environment_to_wire(target.environment),
        "policy": policy_to_wire(target.policy),
        "scheduler": target.scheduler,
        "install-timeout": target.install_timeout,
        "transport": target.transport,
        "indexes": indexes_to_wire(target.indexes),
        "restart": target.restart,
        **own_to_wire(target),
    }


ON_CONFLICT = ("refuse", "wait", "replace")
RESTARTS = ("drained", "now")
_SHARED = ("schema", "environment", "policy", "scheduler", "install-timeout", "transport", "indexes", "restart")
_OWN = ("client-process", "store", "on-conflict", "keep", "owner")


def target_from_wire(data: object, place: str = "target") -> Target:
    """Check and read what `target_to_wire` wrote."""
    field = Field(data, place)
    field.schema()
    field.only(*_SHARED, *_OWN)
    return Target(
        environment_from_wire(field.key("environment").value, f"{place}.environment"),
        policy_from_wire(field.key("policy").value, f"{place}.policy"),
        _one_of(field.key("scheduler"), ("warn", "refuse")),
        field.key("install-timeout").number(),
        transport=_one_of(field.key("transport"), TRANSPORTS),
        indexes=indexes_from_wire(field.key("indexes").value, f"{place}.indexes"),
        restart=_one_of(field.key("restart"), RESTARTS),
        **_own(field),
    )


def own_to_wire(target: Target) -> dict[str, Any]:
    """Return what is a client's own in a target that others have as well."""
    return {
        "client-process": target.client_process,
        "store": target.store,
        "on-conflict": target.on_conflict,
        "keep": target.keep,
        "owner": target.owner,
    }


def own_from_wire(data: object, place: str = "own") -> dict[str, Any]:
    """Check and read what `own_to_wire` wrote; return fields of a `Target`."""
    return _own(Field(data, place).only(*_OWN))


def _own(field: Field) -> dict[str, Any]:
    return {
        "client_process": field.key("client-process").text(200),
        "store": field.key("store").text(),
        "on_conflict": _one_of(field.key("on-conflict"), ON_CONFLICT),
        "keep": field.key("keep").flag(),
        "owner": field.key("owner").text(200),
    }


def _one_of(field: Field, choices: tuple[str, ...]) -> str:
    found = field.text(20)
    if found not in choices:
        raise MessageError(field.place, " or ".join(choices), found)
    return found


def failure_to_wire(failure: NodeFailure) -> dict[str, Any]:
    """Return a failure as plain data."""
    return {
        "node": failure.node,
        "step": failure.step,
        "problem": failure.problem,
        "advice": failure.advice,
        "last-words": failure.last_words[-MAX_LONG_TEXT:],
        "packages": list(failure.packages[:MAX_BLAMED]),
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
        tuple(entry.text() for entry in field.key("packages").items(MAX_BLAMED)),
    )
