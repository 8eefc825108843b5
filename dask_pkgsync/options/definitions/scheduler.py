"""What the operator of a scheduler decides, where `dask_pkgsync.preload` is among its preloads."""

from __future__ import annotations

from dask_pkgsync.options import kinds
from dask_pkgsync.options.option import Option, Whose

MODE = Option(
    "mode",
    kinds.choice(("sync", "enforce", "warn")),
    Whose.SCHEDULER,
    "Who says what the cluster is to have.",
    "`sync`: clients do. `enforce`: the operator does (`pkgsync.target`), and clients must match it. `warn`: nobody "
    "does; nothing is refused or installed, and every difference is told.",
    default="sync",
    page="shared-clusters.md#modes",
)
TARGET = Option(
    "target",
    kinds.or_null(kinds.TEXT),
    Whose.SCHEDULER,
    "For the modes `enforce` and `warn`: what everybody must have, or is compared with.",
    "`scheduler`, which is the default: what the scheduler's own interpreter has. Or the path of a file on the "
    "scheduler: `requirements.txt` with pins, `pylock.toml`, `uv.lock`, `poetry.lock`, or what `dask pkgsync scan "
    "--json` writes.",
    default=None,
    page="shared-clusters.md#modes",
)
DRAIN_TIMEOUT = Option(
    "drain-timeout",
    kinds.DURATION_OR_ZERO,
    Whose.SCHEDULER,
    "Time in which a worker may end its tasks, and its peers take its results, before it is restarted for a sync; 0: "
    "it is restarted at once.",
    default="30s",
)
DRAIN_SHARE = Option(
    "drain-share",
    kinds.number(0, 1),
    Whose.SCHEDULER,
    "Share of the workers that may be drained and restarted at the same time, of those that hold results or run "
    "tasks; at least one.",
    "Others are restarted at once.",
    default=0.5,
)
RELEASE_AFTER = Option(
    "release-after",
    kinds.or_null(kinds.DURATION),
    Whose.SCHEDULER,
    "Time after the last client has gone, when what clients have synced is released; null: never.",
    "It stays while tasks or published results are there, or if somebody has asked to keep it.",
    default="10m",
)
STOCK_CLIENTS = Option(
    "stock-clients",
    kinds.choice(("judge", "refuse", "allow")),
    Whose.SCHEDULER,
    "What happens to clients that do not say what they have (without dask-pkgsync's preload).",
    "`judge`: the versions in Dask's own handshake decide. `refuse`: they are not let in. `allow`: they are.",
    default="judge",
    page="shared-clusters.md#modes",
)
