"""An environment as data: an interpreter, its distributions, and the fingerprint of both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.conda import conda_package_from_wire, conda_package_to_wire
from dask_pkgsync.model.environments.distribution import (
    distribution_from_wire,
    distribution_to_wire,
    fault_from_wire,
    fault_to_wire,
)
from dask_pkgsync.model.environments.interpreter import (
    IMPLEMENTATIONS,
    interpreter_from_wire,
    interpreter_to_wire,
)
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.text import counted
from dask_pkgsync.model.wire.fields import MAX_ITEMS, Field
from dask_pkgsync.model.wire.names import canonical_version
from dask_pkgsync.model.wire.protocol import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from typing import Any

    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.model.environments.distribution import Distribution, Fault
    from dask_pkgsync.model.environments.interpreter import Interpreter


HARMLESS = frozenset({"stray", "stale"})
"""The kinds of faults after which the distribution of that name is still known for what it is."""
_FORM = 1
"""Version of the canonical form, of which the fingerprint is the digest."""


@dataclass(frozen=True)
class Environment:
    """An interpreter and its distributions.

    Environments are equal if their interpreters and distributions are; faults do not count. Make one with
    `dask_pkgsync.scan`, or from a file with `from_json`.
    """

    interpreter: Interpreter
    distributions: Mapping[str, Distribution]
    """Distributions by canonical name (PEP 503), read-only, sorted by name."""
    faults: tuple[Fault, ...] = field(default=(), compare=False)
    """Defects that the scan found, for example a package whose metadata cannot be read."""
    conda: Mapping[str, CondaPackage] = field(default_factory=dict)
    """The conda packages in the interpreter's prefix by name, read-only, sorted by name; empty if no conda made it."""

    def __post_init__(self) -> None:
        for name in ("distributions", "conda"):
            ordered = dict(sorted(getattr(self, name).items()))
            object.__setattr__(self, name, MappingProxyType(ordered))

    def __hash__(self) -> int:
        """Hash the fingerprint: equal environments have equal fingerprints."""
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with a plain dictionary: a mapping proxy cannot be pickled."""
        return Environment, (self.interpreter, dict(self.distributions), self.faults, dict(self.conda))

    @classmethod
    def of(
        cls,
        interpreter: Interpreter,
        distributions: Iterable[Distribution],
        faults: Iterable[Fault] = (),
        conda: Iterable[CondaPackage] = (),
    ) -> Environment:
        """Make an environment from distributions; of several with one name it takes the first, as importing does."""
        by_name: dict[str, Distribution] = {}
        for distribution in distributions:
            by_name.setdefault(distribution.name, distribution)
        return cls(interpreter, by_name, tuple(faults), {package.name: package for package in conda})

    def __repr__(self) -> str:
        """Return fingerprint, interpreter and number of distributions on one line."""
        interpreter = self.interpreter
        name = IMPLEMENTATIONS.get(interpreter.implementation, interpreter.implementation)
        packages = counted(len(self.distributions), "distribution")
        packages += f", {counted(len(self.conda), 'conda package')}" if self.conda else ""
        return (
            f"<Environment {self.fingerprint[:12]}…: {name} {interpreter.version}, {interpreter.platform}, {packages}>"
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical form, 64 hexadecimal digits.

        It covers the interpreter, and name, version and build of each distribution: the commit, or the digest of its
        source or content, and the digests of the files that a lock file allows. Of each conda package it covers the
        build string and the digest of the archive. It does not cover the installer, path or URL of a distribution: the
        same wheel from a mirror is the same package.
        """
        interpreter = self.interpreter
        rows = [(d.name, canonical_version(d.version), d.build, *d.hashes) for d in self.distributions.values()]
        canonical = [
            _FORM,
            [interpreter.implementation, interpreter.version, interpreter.platform],
            rows,
            *([[[*package.key, package.identity] for package in self.conda.values()]] if self.conda else []),
        ]
        import hashlib  # imported here because not every scan needs them
        import json

        return hashlib.sha256(json.dumps(canonical, separators=(",", ":")).encode()).hexdigest()

    def with_any_build(self, names: Container[str]) -> Environment:
        """Return the environment without the content digests of some packages, so that any build matches them."""
        changed = [replace(d, content="") if d.name in names else d for d in self.distributions.values()]
        return self.with_distributions(changed)

    def with_distributions(self, distributions: Iterable[Distribution], faults: Iterable[Fault] = ()) -> Environment:
        """Return the environment with other distributions, and further faults; its conda packages stay."""
        return Environment.of(self.interpreter, distributions, (*self.faults, *faults), self.conda.values())

    def with_conda(self, packages: Iterable[CondaPackage]) -> Environment:
        """Return the environment with other conda packages."""
        return Environment.of(self.interpreter, self.distributions.values(), self.faults, packages)

    def faulty(self, name: str) -> Fault | None:
        """Return the fault of the distribution with this canonical name; None if it has none."""
        return self._faults_by_name.get(name)

    @cached_property
    def _faults_by_name(self) -> dict[str, Fault]:
        return {fault.name: fault for fault in reversed(self.faults) if fault.kind not in HARMLESS}

    def to_json(self) -> str:
        """Return the environment as JSON, which `from_json` reads."""
        import json

        return json.dumps(environment_to_wire(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Environment:
        """Read an environment from JSON that `to_json` wrote, in this release or an earlier one.

        Raises
        ------
        MessageError
            If the text is not JSON, or not an environment in a schema that this release reads.
        """
        import json

        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise MessageError("environment", f"JSON ({error})", text) from None
        if isinstance(data, dict) and data.get("schema") == 1:
            from dask_pkgsync.model.environments.schema_1 import from_schema_1

            return environment_from_wire(from_schema_1(data))
        return environment_from_wire(data)


def environment_to_wire(environment: Environment) -> dict[str, Any]:
    """Return an environment as plain data."""
    conda = {name: conda_package_to_wire(package) for name, package in environment.conda.items()}
    return {
        "schema": SCHEMA,
        "interpreter": interpreter_to_wire(environment.interpreter),
        "distributions": {
            name: distribution_to_wire(distribution) for name, distribution in environment.distributions.items()
        },
        "faults": [fault_to_wire(fault) for fault in environment.faults],
        **({"conda": conda} if conda else {}),
    }


def environment_from_wire(data: object, place: str = "environment") -> Environment:
    """Check and read what `environment_to_wire` wrote."""
    field = Field(data, place)
    field.schema()
    interpreter = interpreter_from_wire(field.key("interpreter"))
    entries = field.key("distributions").entries(MAX_ITEMS)
    distributions = [distribution_from_wire(name, entry) for name, entry in entries]
    faults = [fault_from_wire(entry) for entry in field.optional("faults", []).items()]
    conda = [conda_package_from_wire(name, entry) for name, entry in field.optional("conda", {}).entries(MAX_ITEMS)]
    return Environment.of(interpreter, distributions, faults, conda)
