"""``dask pkgsync compare``: the differences between two environments, or between a running cluster and one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from dask_pkgsync.cli.arguments import flags, keywords, take_tls_files, tls_options
from dask_pkgsync.cli.environments import label, names_cluster, read_environment

if TYPE_CHECKING:
    from dask_pkgsync.model.comparison import Comparison
    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.model.reports.cluster_comparison import ClusterComparison


@click.command()
@click.argument("expected")
@click.argument("found", required=False)
@flags("compare")
@tls_options
@click.option("--json", "as_json", is_flag=True, help="Print the comparison of a cluster as JSON.")
def compare(expected: str, found: str | None, *, as_json: bool, **given: Any) -> None:
    """List the differences between two environments, or between a running cluster and this environment.

    EXPECTED and FOUND are files that `scan --json` wrote, "." for this environment, or "-" for standard input. One of
    them may be a cluster: the address of a scheduler, or a scheduler file. Without FOUND, EXPECTED is a cluster, which
    is compared with this environment. A cluster is only looked at, and need not have dask-pkgsync. The exit status is 1
    if there are differences.
    """
    from dask_pkgsync.model.policy import Policy

    files = take_tls_files(given)
    options: Any = keywords(given)  # the flags of this command are those of Policy.of
    policy = Policy.of(**options)
    comparison: Comparison | ClusterComparison
    if found is None or names_cluster(expected) or names_cluster(found):
        cluster, source = _parted(expected, found)
        comparison = _compare_cluster(cluster, source, policy, files)
    elif as_json:
        raise click.UsageError("--json is for the comparison of a cluster.")
    else:
        comparison = _compare_environments(expected, found, policy)
    click.echo(_compare_page(comparison, as_json=as_json))
    if comparison:
        sys.exit(1)


def _compare_page(comparison: Comparison | ClusterComparison, *, as_json: bool) -> str:
    return comparison.to_json() if as_json and hasattr(comparison, "to_json") else str(comparison)


def _parted(expected: str, found: str | None) -> tuple[str, str]:
    """Return which of two arguments is the cluster, and which the environment that it is compared with."""
    if found is None:
        return expected, "."
    if names_cluster(expected) and names_cluster(found):
        raise click.UsageError("Only one of EXPECTED and FOUND can be a cluster.")
    return (expected, found) if names_cluster(expected) else (found, expected)


def _compare_environments(expected: str, found: str, policy: Policy) -> Comparison:
    from dask_pkgsync.model.comparison import compare as compare_environments

    if expected == found == "-":
        raise click.UsageError("Only one of EXPECTED and FOUND can be read from standard input.")
    one, other = read_environment(expected), read_environment(found)
    policy.refuse_unknown_only({*one.distributions, *other.distributions})
    return compare_environments(one, other, policy, expected_label=label(expected), found_label=label(found))


def _compare_cluster(cluster: str, source: str, policy: Policy, files: dict[str, str | None]) -> ClusterComparison:
    from dask_pkgsync.client.api import compare_cluster
    from dask_pkgsync.client.clusters import place_of
    from dask_pkgsync.client.connection import security

    environment = read_environment(source)
    policy.refuse_unknown_only(environment.distributions)
    return compare_cluster(place_of(cluster, security(**files)), environment, policy, label=label(source))
