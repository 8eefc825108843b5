"""The environments that the gate has let in by its present rules: it recognises their clients by a fingerprint."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.presentation import Recognition

MAX_DISTRIBUTIONS = 20_000
"""The most distributions of all remembered environments together: about 10 MB. The oldest environments are forgotten
first, and their clients present them once more."""


class Acquaintances:
    """The environments that were let in since the rules last changed, by their fingerprints.

    Parameters
    ----------
    may_ask_for : callable
        Whether a client that asks for a target of this name, and has an environment that was let in, has nothing to
        sync: the cluster has that target, or one that the operator enforces.
    """

    def __init__(self, may_ask_for: Callable[[str], bool]) -> None:
        self.may_ask_for = may_ask_for
        self.environments: dict[str, Environment] = {}

    def remember(self, environment: Environment) -> None:
        """Remember an environment that the gate has let in."""
        known = {**self.environments}
        known.pop(environment.fingerprint, None)
        known[environment.fingerprint] = environment  # as the newest
        total = sum(len(one.distributions) for one in known.values())
        for fingerprint in list(known)[:-1]:
            if total <= MAX_DISTRIBUTIONS:
                break
            total -= len(known.pop(fingerprint).distributions)
        self.environments = known  # in one step, as threads remember what the event loop looks up

    def forget(self) -> None:
        """Forget all of them, as the target or the operator's rules have changed."""
        self.environments = {}

    def recognises(self, client: Recognition) -> bool:
        """Whether a client may come in without presenting its environment."""
        return client.fingerprint in self.environments and self.may_ask_for(client.target)
