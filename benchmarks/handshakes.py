"""What the gate has to think about a handshake, in one process: no scheduler runs, and nothing is sent.

What a client presents is judged in a thread; all else holds up the scheduler's event loop, which nothing may for more
than the limit.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from distributed import Scheduler
from distributed.versions import error_message, get_versions
from malformed_messages import padded, presenting, with_other_versions, worker_handshake

from benchmarks.race import Measured, Race, Scale
from benchmarks.schedulers import LIMIT
from dask_pkgsync import Policy, scan
from dask_pkgsync.model.environments.environment import environment_from_wire, environment_to_wire
from dask_pkgsync.model.operator_policy import OperatorPolicy
from dask_pkgsync.model.target import Target
from dask_pkgsync.scheduler.clients.acquaintances import Acquaintances
from dask_pkgsync.scheduler.clients.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

DASK = "Dask's own comparison of versions"
LIMITED = f"the limit of {LIMIT * 1e3:.0f} ms"


def gate(operator_policy: OperatorPolicy) -> Gate:
    """Return a gate of a scheduler that does not run."""
    scheduler: Any = SimpleNamespace(
        add_client=MethodType(Scheduler.add_client, object()), add_worker=MethodType(Scheduler.add_worker, object())
    )
    acquaintances = Acquaintances(lambda _: True)
    return Gate(scheduler, operator_policy, lambda _: None, lambda: True, lambda _: None, acquaintances)


def judged(title: str, at: Gate, message: dict[str, Any], who: str, *, passes: bool = True) -> Race:
    """Have a handshake judged, and make sure that it is judged as it should be."""
    assert (at.objection(message, who) is None) == passes
    own = get_versions()
    peers = {
        DASK: lambda: error_message(own, {"tcp://127.0.0.1:9": own}, message["versions"]),
        LIMITED: lambda: Measured(LIMIT),
    }
    many = len(message["versions"].get("pkgsync", {}).get("environment", {}).get("distributions", ()))
    loops = max(1, 1_000 // max(many, 50))
    goals = {} if many else {LIMITED: "< 1"}
    return Race(title, {"gate": partial(at.objection, message, who)}, peers, goals, runs=20, loops=loops)


def benchmark(scale: Scale) -> Iterator[Race]:
    """Judge stock clients, workers, and clients that present what they have."""
    wire = environment_to_wire(scan(modules=False))
    wire["distributions"] = dict(list(wire["distributions"].items())[:50])
    clients = gate(OperatorPolicy())
    yield judged("a stock client", clients, {"client": "Client-1", "versions": get_versions()}, "client")
    yield judged("a worker", clients, worker_handshake("tcp://127.0.0.1:9", "one"), "worker")
    for count in scale.pick((50, 500, 5_000), (50,)):
        shown = padded(wire, count)
        message = {"client": "Client-1", "versions": presenting(shown)}
        target = Target(environment_from_wire(shown), Policy())
        other = {"client": "Client-1", "versions": presenting(with_other_versions(shown))}
        enforced = gate(OperatorPolicy(mode="enforce", expected=target))
        yield judged(f"presents {count:,}, clients decide", clients, message, "client")
        yield judged(f"presents {count:,}, as is enforced", enforced, message, "client")
        yield judged(f"presents {count:,}, all others than are enforced", enforced, other, "client", passes=False)


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["handshakes", *sys.argv[1:]])
