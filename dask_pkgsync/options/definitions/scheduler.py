"""The options that the operator of a scheduler sets, if `dask_pkgsync.preload` is among its preloads."""

from __future__ import annotations

from dask_pkgsync.model.relaunch import RELAUNCHES
from dask_pkgsync.options import kinds
from dask_pkgsync.options.option import Option, Whose

MODE = Option(
    "mode",
    kinds.choice(("sync", "enforce", "warn")),
    Whose.SCHEDULER,
    "Who sets the environment of the cluster.",
    "`sync`: clients. `enforce`: the operator (`pkgsync.target`); clients must match it. `warn`: nobody; nothing is "
    "refused or installed, and every difference is reported.",
    default="sync",
    page="shared-clusters.md#modes",
)
TARGET = Option(
    "target",
    kinds.or_null(kinds.TEXT),
    Whose.SCHEDULER,
    "The environment that nodes and clients must match (mode `enforce`), or are compared with (mode `warn`).",
    "`scheduler`, which is the default in these modes: the environment of the scheduler's own interpreter. Or the path "
    "of a file on the scheduler: a lock file such as `requirements.txt` with pins, `pylock.toml`, `uv.lock`, "
    "`poetry.lock`, `Pipfile.lock` or `pixi.lock`, or what `dask pkgsync scan --json` writes.",
    default=None,
    page="shared-clusters.md#modes",
)
DRAIN_TIMEOUT = Option(
    "drain-timeout",
    kinds.DURATION_OR_ZERO,
    Whose.SCHEDULER,
    "Time that a worker has to end its tasks and to move its results to other workers before a sync restarts it; 0: it "
    "is restarted at once.",
    default="30s",
)
DRAIN_SHARE = Option(
    "drain-share",
    kinds.number(0, 1),
    Whose.SCHEDULER,
    "Share of the workers with results or running tasks that may be drained and restarted at the same time, but at "
    "least one worker.",
    "Workers without results and tasks are restarted at once.",
    default=0.5,
)
RELEASE_AFTER = Option(
    "release-after",
    kinds.or_null(kinds.DURATION),
    Whose.SCHEDULER,
    "Time from the disconnection of the last client to the release of the synced environment; null: never.",
    "It is not released while tasks or published results exist, or if a client has asked to keep it (`keep`).",
    default="10m",
)
MAY_RELAUNCH = Option(
    "may-relaunch",
    kinds.choice(RELAUNCHES),
    Whose.SCHEDULER,
    "The most that clients may ask for with `relaunch`.",
    "`never`: this cluster is not relaunched. `idle`: only if nobody loses anything. `now`: in any case. In the modes "
    "`enforce` and `warn` no client may ask for any.",
    default="now",
    page="relaunch.md#permission",
)
CRITICAL_BUILDS = Option(
    "critical-builds",
    kinds.choice(("warn", "refuse")),
    Whose.SCHEDULER,
    "What happens to clients that have another build of one of Dask's critical packages than the scheduler, in the "
    "same version.",
    "`warn`: the report of their sync says so. `refuse`: they are refused, if they present their environment.",
    default="warn",
    page="same-bytes.md",
)
STOCK_CLIENTS = Option(
    "stock-clients",
    kinds.choice(("judge", "refuse", "allow")),
    Whose.SCHEDULER,
    "What happens to clients that do not present their environment, because they lack dask-pkgsync's preload.",
    "`judge`: the versions in Dask's own handshake decide. `refuse`: they are refused. `allow`: they are let in.",
    default="judge",
    page="shared-clusters.md#modes",
)
