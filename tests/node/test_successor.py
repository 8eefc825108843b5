"""A second worker of a nanny starts beside the present one only where there is memory for both."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from dask_pkgsync.node import successor
from dask_pkgsync.process.memory import available_memory, used_memory

if TYPE_CHECKING:
    from pathlib import Path

LIMITED = "1000000000\n"
USED = "700000000\n"


class PlainNanny:
    """A nanny in whose way nothing stands but memory, as `why_not_two_workers` sees it."""

    pid = os.getpid()


def group(root: Path, names: tuple[str, str, str], limit: str, statistics: str) -> Path:
    """Write the files of a control group."""
    for name, text in zip(names, (limit, USED, statistics), strict=True):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("names", "cached"),
    [
        (("memory.max", "memory.current", "memory.stat"), "inactive_file"),
        (
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
            "total_inactive_file",
        ),
    ],
)
def test_a_container_has_what_its_limit_leaves(tmp_path: Path, names: Any, cached: str) -> None:
    """What a container may still take is its limit less what it uses, without files that are only cached."""
    statistics = f"anon 500000000\n{cached} 200000000\n"
    assert available_memory(group(tmp_path, names, LIMITED, statistics)) == 500_000_000
    assert available_memory(group(tmp_path, names, "0\n", statistics)) == 0


def test_without_a_container_the_machine_decides(tmp_path: Path) -> None:
    """A control group without a limit, and none at all, leave what the machine has."""
    names = ("memory.max", "memory.current", "memory.stat")
    everything = available_memory(tmp_path)
    assert everything > 500_000_000
    assert available_memory(group(tmp_path, names, "max\n", "anon 1\n")) > 500_000_000


def test_a_process_that_has_ended_holds_no_memory() -> None:
    """A process tells what it holds; one that is not there holds nothing."""
    assert used_memory(os.getpid()) > 1_000_000
    assert used_memory(2**22 + 1) == 0


def test_a_second_worker_needs_memory_beside_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much must be available as the present worker holds, and never less than what Dask itself needs."""
    nanny: Any = PlainNanny()
    monkeypatch.setattr(successor, "why_not_two_workers", lambda *_: "")
    used = max(used_memory(nanny.pid), successor.NEEDED)
    for available, reason in ((used * 2, ""), (successor.NEEDED - 1, "two workers at once need")):
        monkeypatch.setattr(successor, "available_memory", lambda available=available: available)
        found = asyncio.run(successor.why_none(nanny, "pkgsync"))
        assert found == reason or (reason and reason in found)
