"""Discrepancies: what the nodes have otherwise than the client, or not at all, although the sync has succeeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.environment import HARMLESS
from dask_pkgsync.model.text import counted, harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.policy import Policy

NAMED = 5
"""The most names in one sentence."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A module or distribution that the nodes have otherwise than the client, or not at all."""

    name: str
    """Name of the module or distribution, for example ``helpers``."""
    problem: str
    """What differs, for people, for example ``it is imported here from /home/ann, and is not on the nodes``."""
    advice: str = ""
    """What the person can do now."""
    nodes: int = 0
    """Number of the nodes that it is about; 0: all."""
    matters: bool = True
    """Whether it makes a difference on the nodes; metadata that pip left behind does not."""

    def __str__(self) -> str:
        """Say in one line what differs, and what to do."""
        where = f" (on {counted(self.nodes, 'node')})" if self.nodes else ""
        advice = f" What to do: {self.advice}" if self.advice else ""
        return harmless(f"{self.name}{where}: {self.problem}.{advice}").replace("\n", " ")


class DiscrepancyWarning(UserWarning):
    """A sync whose report nobody sees has left discrepancies.

    Attributes
    ----------
    discrepancies : tuple of Discrepancy
    """

    def __init__(self, discrepancies: tuple[Discrepancy, ...]) -> None:
        super().__init__(discrepancies)
        self.discrepancies = discrepancies

    def __str__(self) -> str:
        """List the discrepancies."""
        return f"the nodes match this environment, except for:\n{page(self.discrepancies)}"


def page(discrepancies: Iterable[Discrepancy]) -> str:
    """Return discrepancies as text, a line each."""
    return "\n".join(f"  {discrepancy}" for discrepancy in discrepancies)


def exceptions(discrepancies: Sequence[Discrepancy]) -> str:
    """Return the words with which a headline names discrepancies: ``, except for helpers, six``; empty if none."""
    names = list(dict.fromkeys(discrepancy.name for discrepancy in discrepancies if discrepancy.matters))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f", except for {', '.join(names[:NAMED])}{more}" if names else ""


def faults_of(environment: Environment, policy: Policy) -> tuple[Discrepancy, ...]:
    """Return the faults of the client's own environment that concern what the policy compares."""
    return tuple(
        Discrepancy(
            fault.name or fault.place,
            f"this environment has a fault here: {fault.detail} ({fault.place})",
            "Install it again, or remove what is left of it.",
            matters=bool(fault.name),
        )
        for fault in environment.faults
        if fault.kind not in HARMLESS and not (fault.name and policy.ignores(fault.name))
    )
