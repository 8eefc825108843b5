"""``dask pkgsync check``: whether a cluster, or one that enforces a lock file, would let this environment in."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_pkgsync.cli.arguments import address_argument, flags, keywords, take_modules
from dask_pkgsync.cli.connection import connected
from dask_pkgsync.cli.environments import names_cluster, this_snapshot

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.model.reports.verdict import Verdict
    from dask_pkgsync.options.keywords import Options

LOCK_SUFFIXES = (".json", ".lock", ".toml", ".txt")
"""Suffixes of lock files: an argument with one of them is never an address, even if there is no such file."""


@click.command()
@address_argument
@flags("check")
def check(address: str, **given: Any) -> None:
    """Check whether a cluster would let this environment in: exit status 0 if so, 1 if not.

    ADDRESS is the address of a scheduler, or the path of a lock file that a scheduler enforces: requirements.txt with
    pins, pylock.toml, uv.lock, poetry.lock, Pipfile.lock, or what `scan --json` writes. The last line is the verdict,
    below the differences.
    """
    from dask_pkgsync.options.person import policy_from

    modules, policy = take_modules(given), policy_from(keywords(given))
    if not names_cluster(address) and (Path(address).is_file() or Path(address).suffix in LOCK_SUFFIXES):
        verdict = _check_lock(address, policy, keywords(given), modules=modules)
    else:
        verdict = _check_cluster(address, policy, given, modules=modules)
    click.echo(verdict.page(address))
    if not verdict.is_let_in:
        sys.exit(1)


def _check_cluster(address: str, policy: Policy, given: dict[str, Any], *, modules: bool | list[str] | None) -> Verdict:
    from dask_pkgsync.client.api import check as check_cluster
    from dask_pkgsync.client.connection import RefusedError
    from dask_pkgsync.client.handshake import presented_snapshot, take_presented
    from dask_pkgsync.scanning.snapshot import verified

    try:
        with connected(address, given, modules=modules) as client:
            environment = verified(presented_snapshot(take_presented(client)).environment)
            policy.refuse_unknown_only(environment.distributions)
            return _with_faults(check_cluster(client, environment, policy), environment, policy)
    except RefusedError as error:
        click.echo(f"{error}\n")
        click.echo(f"{address}: would be refused, for the reason above.")
        sys.exit(1)


def _check_lock(path: str, policy: Policy, options: Options, *, modules: bool | list[str] | None) -> Verdict:
    from dask_pkgsync.model.comparison import compare
    from dask_pkgsync.model.lockfiles.lockfile import unpinned
    from dask_pkgsync.model.reports.verdict import LET_IN, Verdict, refused
    from dask_pkgsync.options.lock_file import locked_environment

    labels = {"expected_label": path, "found_label": "this environment"}
    expected = locked_environment(path, options)
    environment = this_snapshot(modules=modules, verify=True).environment
    policy.refuse_unknown_only({*expected.distributions, *environment.distributions})
    comparison = compare(expected, environment, policy, **labels)
    if not comparison:
        return _with_faults(Verdict(LET_IN), environment, policy)
    missing = ", ".join(unpinned(expected))
    note = f"{path} does not pin {missing}, which Dask needs: a scheduler that enforces this file does not start"
    verdict = replace(refused(comparison, enforced=True), notes=(note,) if missing else ())
    return _with_faults(verdict, environment, policy)


def _with_faults(verdict: Verdict, environment: Environment, policy: Policy) -> Verdict:
    """Return a verdict with notes on the faults of this environment."""
    from dask_pkgsync.model.reports.discrepancies import faults_of

    return replace(verdict, notes=(*verdict.notes, *map(str, faults_of(environment, policy))))
