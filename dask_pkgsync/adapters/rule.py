"""On the scheduler: what the operator has configured, beside which clients have no say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.core.compare import compare
from dask_pkgsync.core.errors import EnvironmentMismatchError, WarnsOnlyError
from dask_pkgsync.core.fields import Field
from dask_pkgsync.core.handshake import PRESENTED
from dask_pkgsync.core.messages import environment_from_wire

if TYPE_CHECKING:
    from dask_pkgsync.core.compare import Comparison
    from dask_pkgsync.core.environment import Environment
    from dask_pkgsync.core.messages import Target

NO_FINGERPRINT = (
    "This cluster lets in only clients that say what they have. Install dask-pkgsync, and put dask_pkgsync.preload "
    "into distributed.client.preload of your Dask configuration."
)


@dataclass
class Rule:
    """Who has a say. By default clients set the target, and stock ones are judged by Dask's own handshake."""

    mode: str = "sync"
    """``sync``, ``enforce`` or ``warn``."""
    stock_clients: str = "judge"
    """Clients that present nothing: ``judge``, ``refuse`` or ``allow``."""
    enforced: Target | None = None
    """What everybody must have, in mode ``enforce``."""

    @property
    def only_warns(self) -> bool:
        """Whether differences are told and nobody is refused for them."""
        return self.mode == "warn"

    def lets_in(self, environment: Environment | None) -> bool:
        """Whether a client that presents this, or nothing, is let in whatever versions its handshake names."""
        return self.stock_clients == "allow" and environment is None

    def judge_client(self, environment: Environment | None) -> str | None:
        """Say why a client that presents this, or nothing, may not register: the operator enforces something else."""
        if environment is None:
            return NO_FINGERPRINT if self.stock_clients == "refuse" else None
        comparison = self.compare(environment)
        return str(EnvironmentMismatchError(comparison)) if comparison else None

    def compare(self, environment: Environment) -> Comparison | None:
        """Return how an environment differs from the operator's; None where there is none, or where it matches."""
        if self.enforced is None:
            return None
        expected, policy = self.enforced.environment, self.enforced.policy
        return compare(expected, environment, policy, expected_label="cluster", found_label="client") or None

    def decides(self, asked: Target) -> bool:
        """Return whether the operator, and no client, says what the cluster has; raise if this client wants otherwise.

        Raises
        ------
        EnvironmentMismatchError
            If the client does not match the operator's environment.
        WarnsOnlyError
            If nothing is ever installed here.
        """
        if self.only_warns:
            raise WarnsOnlyError(
                "this cluster is configured to install nothing (pkgsync.mode is warn); it only compares"
            )
        if (comparison := self.compare(asked.environment)) is not None:
            raise EnvironmentMismatchError(comparison)
        return self.enforced is not None


def presented(message: dict[str, Any]) -> Environment | None:
    """Check and return the environment that a client with our preload presents, or None.

    Raises
    ------
    MessageError
        Also for what a newer dask-pkgsync presents and this one cannot read.
    """
    versions = Field(message, "handshake").key("versions")
    if not isinstance(versions.value, dict) or PRESENTED not in versions.value:
        return None
    shown = versions.key(PRESENTED)
    shown.schema()
    return environment_from_wire(shown.key("environment").value, f"{shown.place}.environment")
