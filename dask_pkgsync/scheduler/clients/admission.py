"""On the scheduler: says whether somebody would be let in, without letting anybody in."""

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
    """What an environment is held against."""

    target: Target | None
    """What the cluster has."""
    others: tuple[Target, ...]
    """What other people want who are connected."""
    file_conflicts: tuple[FileConflict, ...]
    """What is known to have the same files."""
    notes: tuple[str, ...]
    """What everybody should know."""


class Admission:
    """Answers who asks before connecting.

    Parameters
    ----------
    gate : Gate
    claims : Claims
    target : callable
        Returns what the cluster has.
    is_guarded : callable
        Whether the gate is on duty.
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
        """Return whether a client with an environment would be let in, as plain data.

        Parameters
        ----------
        environment : dict
        policy : dict, optional
            By which it would sync; by default without options.
        process : str
            Token of the process that asks: what it wants itself is in nobody's way.
        """
        others = [one.target for one in self.claims.of_other_processes(Field(process, "process").text(200))]
        notes = [MUST_PRESENT] if self.operator_policy.stock_clients == "refuse" else []
        notes += [] if self.is_guarded() else [UNGUARDED]
        situation = AdmissionBasis(self.target(), tuple(others), tuple(self.claims.file_conflicts), tuple(notes))
        async with self.lock:  # one at a time, and not in the way of those who register
            return await asyncio.to_thread(self._check, environment, policy, situation)

    def _check(self, environment: object, policy: object, situation: AdmissionBasis) -> dict[str, Any]:
        found = environment_from_wire(environment)
        asked = Target(found, Policy() if policy is None else policy_from_wire(policy))
        verdict = self._verdict(asked, situation)
        return verdict_to_wire(replace(verdict, notes=(*situation.notes, *verdict.notes)))

    def _verdict(self, asked: Target, situation: AdmissionBasis) -> Verdict:
        differences, is_enforced = self._differences(asked.environment), self.operator_policy.enforced is not None
        if self.operator_policy.only_warns:
            return Verdict(LET_IN, differences=differences, notes=(ONLY_WARNS,))
        if differences:
            return refused(differences, enforced=is_enforced)
        if self.operator_policy.enforced is not None:
            return Verdict(LET_IN, notes=local_code_left_out(asked.environment, self.operator_policy.enforced))
        return judge(asked, situation.target, situation.others, situation.file_conflicts)

    def _differences(self, found: Environment) -> Comparison:
        """Return what keeps a client out, or would if differences were not only told."""
        here = {**own_versions(), "implementation": sys.implementation.name}
        critical = compare_critical(here, critical_versions(found), expected_label="cluster", found_label="client")
        return critical.and_also(self.operator_policy.differing_from(found))
