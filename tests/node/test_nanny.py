"""A nanny's own process takes what it can of the target, and tells what it cannot take."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from clusters import environment_with

from dask_pkgsync.layers.layer import Layer
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.plan import Install, Plan, Skip, make_plan
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.target import Target
from dask_pkgsync.node.nanny import NannyAgent
from dask_pkgsync.process.preparation import TOO_LATE, Prepared, prepare_running
from dask_pkgsync.scanning.installed import scan_installed, this_interpreter

TARGET = Target(Environment.of(this_interpreter(), ()), Policy())
COMPLETE = Layer("x", Path("/x"), complete=True, pins=())


@pytest.mark.parametrize(
    ("own", "lacks"),
    [
        (Prepared(Plan(()), None), ()),
        (LayerError("install", "no space left", advice=""), ("no layer for it could be built: no space left",)),
        (
            Prepared(Plan((Install("six", "1.0"),)), COMPLETE),
            ("all of it, as a running process keeps its base, and the layer stands alone",),
        ),
        (
            Prepared(Plan((Skip("numpy", "2.0", TOO_LATE), Skip("six", "1.0", "it is ignored"))), None),
            ("numpy 2.0, imported in another version",),
        ),
    ],
)
def test_what_a_nanny_cannot_take_is_told(own: Any, lacks: tuple[str, ...]) -> None:
    """No layer, a layer that stands alone, and packages that were imported before are told; other skips are not."""
    agent = NannyAgent(cast("Any", None))
    agent.own = own
    assert agent._take_in_this_process(TARGET) == lacks


def test_a_nanny_builds_no_second_layer_where_one_will_do() -> None:
    """A process that has imported nothing that changes takes the layer of its children, without another build."""
    here = scan_installed()
    base, wanted = (environment_with(here, {"nobody-has-imported-it": version}) for version in ("1.0", "2.0"))
    plan = make_plan(base, wanted)
    assert [step.name for step in plan.changes] == ["nobody-has-imported-it"]
    children = Prepared(plan, COMPLETE, base=base)
    nothing = cast("Any", None)  # to build a layer would need these
    assert prepare_running(Target(wanted, Policy()), nothing, nothing, children=children) == children
    late = environment_with(base, {"pytest": "0.1"})
    plan = make_plan(base, late)
    own = prepare_running(Target(late, Policy()), nothing, nothing, children=Prepared(plan, COMPLETE, base=base))
    assert own.plan.skipped == (Skip("pytest", "0.1", TOO_LATE),)
    assert own.layer is None


class CountedPreparations:
    """Prepares nothing, once all have asked for it; fails as often as it is told to, and counts."""

    def __init__(self, failures: int = 0) -> None:
        self.calls, self.failures = 0, failures
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, *_: Any) -> Prepared:
        self.calls += 1
        number = self.calls
        self.has_begun.set()
        self.may_go_on.wait(60)
        if number <= self.failures:
            raise LayerError("install", "no space left", advice="")
        return Prepared(Plan(()), None)


@pytest.mark.parametrize(("failures", "calls", "succeed"), [(0, 1, 4), (1, 4, 3)])
def test_nannies_of_a_process_prepare_once(failures: int, calls: int, succeed: int) -> None:
    """What one nanny prepares is that of all that ask meanwhile; where it fails, each of the others tries by itself."""
    server: Any = SimpleNamespace(scheduler=None, address="tcp://127.0.0.1:9")
    prepare = CountedPreparations(failures)

    async def run() -> list[Any]:
        agents = [NannyAgent(server) for _ in range(4)]
        tasks = [asyncio.create_task(agent.prepare_together("test", prepare, TARGET)) for agent in agents]
        assert await asyncio.to_thread(prepare.has_begun.wait, 60)
        prepare.may_go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(run())
    assert prepare.calls == calls
    assert sum(isinstance(one, Prepared) for one in found) == succeed
