"""Admission: answers whether a client with a certain environment would be let in, without registering it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.comparison import Comparison, compare_critical, critical_versions
from dask_pkgsync.model.environments.environment import environment_from_wire
from dask_pkgsync.model.policy import Policy, policy_from_wire
from dask_pkgsync.model.reports.verdict import (
    LET_IN,
    MUST_PRESENT,
    ONLY_WARNS,
    UNGUARDED,
    Verdict,
    judge,
    local_code_left_out,
    refused,
    verdict_to_wire,
)
from dask_pkgsync.model.target import Target
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.scheduler.clients.gate import own_versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_pkgsync.model.claims import FileConflict
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.scheduler.clients.claims import Claims
    from dask_pkgsync.scheduler.clients.gate import Gate


@dataclass(frozen=True)
class AdmissionBasis:
    """What the scheduler compares a client's environment with."""

    target: Target | None
    """The target of the cluster; None while it has its base."""
    others: tuple[Target, ...]
    """The targets that connected clients of other processes have asked for."""
    file_conflicts: tuple[FileConflict, ...]
    """Pairs of distributions that are known to have different files of one path."""
    notes: tuple[str, ...]
    """Sentences that every verdict of this cluster carries."""


class Admission:
    """Answers a client that asks before it connects whether the gate would let it in.

    Parameters
    ----------
    gate : Gate
    claims : Claims
    target : callable
        Returns the target of the cluster.
    is_guarded : callable
        Returns whether the gate judges clients.
    """

    def __init__(
        self, gate: Gate, claims: Claims, target: Callable[[], Target | None], is_guarded: Callable[[], bool]
    ) -> None:
        self.gate = gate
        self.operator_policy = gate.operator_policy
        self.claims = claims
        self.target = target
        self.is_guarded = is_guarded
        self.lock = asyncio.Lock()

    async def handle_check(
        self, environment: object, policy: object = None, process: object = "", **_: object
    ) -> dict[str, Any]:
        """Return the verdict on a client with this environment, as plain data.

        Parameters
        ----------
        environment : dict
        policy : dict, optional
            The policy with which the client would sync; by default one without options.
        process : str
            Token of the process that asks: its own claims cannot conflict with it.
        """
        others = [claim.target for claim in self.claims.of_other_processes(Field(process, "process").text(200))]
        notes = [MUST_PRESENT] if self.operator_policy.stock_clients == "refuse" else []
        notes += [] if self.is_guarded() else [UNGUARDED]
        basis = AdmissionBasis(self.target(), tuple(others), tuple(self.claims.file_conflicts), tuple(notes))
        async with self.lock:  # one check at a time, and none in the thread that judges registrations
            return await asyncio.to_thread(self._check, environment, policy, basis)

    def _check(self, environment: object, policy: object, basis: AdmissionBasis) -> dict[str, Any]:
        presented = environment_from_wire(environment)
        asked = Target(presented, Policy() if policy is None else policy_from_wire(policy))
        verdict = self._verdict(asked, basis)
        return verdict_to_wire(replace(verdict, notes=(*basis.notes, *verdict.notes)))

    def _verdict(self, asked: Target, basis: AdmissionBasis) -> Verdict:
        differences, is_enforced = self._differences(asked.environment), self.operator_policy.enforced is not None
        if self.operator_policy.only_warns:
            return Verdict(LET_IN, differences=differences, notes=(ONLY_WARNS,))
        if differences:
            return refused(differences, enforced=is_enforced)
        if self.operator_policy.enforced is not None:
            return Verdict(LET_IN, notes=local_code_left_out(asked.environment, self.operator_policy.enforced))
        return judge(asked, basis.target, basis.others, basis.file_conflicts)

    def _differences(self, presented: Environment) -> Comparison:
        """Return the differences for which the gate refuses a client, or which mode ``warn`` only reports."""
        own = {**own_versions(), "implementation": sys.implementation.name}
        critical = compare_critical(own, critical_versions(presented), expected_label="cluster", found_label="client")
        return critical.and_also(self.operator_policy.differing_from(presented))
