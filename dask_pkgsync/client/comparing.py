"""The public function `compare`: of two environments, or of a running cluster with this environment.

It imports Dask only for a cluster, so that environments can be compared where Dask is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from dask_pkgsync.model.comparison import compare as compare_environments
from dask_pkgsync.model.environments.environment import Environment

if TYPE_CHECKING:
    from typing import Any

    from dask_pkgsync.model.comparison import Comparison
    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.model.reports.cluster_comparison import ClusterComparison


@overload
def compare(
    expected: Environment,
    found: Environment,
    policy: Policy | None = None,
    *,
    expected_label: str = "expected",
    found_label: str = "found",
) -> Comparison: ...


@overload
def compare(
    expected: Any, found: Environment | None = None, policy: Policy | None = None, *, expected_label: str = ...
) -> ClusterComparison: ...


def compare(
    expected: Any,
    found: Environment | None = None,
    policy: Policy | None = None,
    *,
    expected_label: str = "",
    found_label: str = "found",
) -> Comparison | ClusterComparison:
    """List every difference between two environments, or between a running cluster and an environment.

    A cluster is only looked at: nothing is changed, installed or registered. It need not have dask-pkgsync, may run
    another Python and Dask than this process, and may refuse this process as a client.

    Parameters
    ----------
    expected : Environment or cluster
        The environment to match. Or a cluster: a `distributed.Client`, the address of a scheduler, a scheduler file,
        or a cluster object such as a `LocalCluster`. Every node is then compared with the environment ``found``, and
        with the other nodes.
    found : Environment, optional
        The environment that is compared with ``expected``. For a cluster it is this interpreter's by default.
    policy : Policy, optional
        How closely each package has to match. By default critical packages match exactly; all others match exactly on
        the same platform, and across platforms by a compatible version (``~=``). For a cluster, Dask's configuration
        (``pkgsync.…``) gives the policy by default.
    expected_label, found_label : str
        Headings of the columns of versions in tables. For a cluster, ``expected_label`` is that of the environment.

    Returns
    -------
    Comparison or ClusterComparison
        False if there is no difference. For an asynchronous client, the result is an awaitable.

    Raises
    ------
    TypeError
        If ``expected`` is an environment and ``found`` is missing, or if it is nothing that names a cluster.
    PkgsyncError
        If nothing answers at the address of the cluster.
    """
    if isinstance(expected, Environment):
        if not isinstance(found, Environment):
            raise TypeError(f"compare() needs two environments, or a cluster; the second is {found!r:.100}")
        label = expected_label or "expected"
        return compare_environments(expected, found, policy, expected_label=label, found_label=found_label)
    from dask_pkgsync.client.api import compare_cluster

    return compare_cluster(expected, found, policy, label=expected_label)
