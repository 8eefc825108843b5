"""How long our code holds the event loops of a cluster's processes: a watcher in each of them, and what it has written.

`WATCHER` is a module that a ``.pth`` file imports in every process of a virtual environment. It times each step of the
process's event loop by the processor time of its thread, as other processes make the time by the clock longer. Another
thread looks at the stack every few milliseconds: a step counts as ours for that part of the looks that saw our code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ROLES = ("scheduler", "nanny", "worker")
"""The processes that are watched, as the watcher names them."""

WATCHER = '''
import json, os, sys, threading, time

WHERE = {where!r}
command = " ".join(sys.orig_argv)
role = "scheduler" if " scheduler " in command else "worker" if "spawn_main" in command else "nanny" if " worker " in command else ""


def watch():
    from asyncio.events import Handle
    run, loops, looks = Handle._run, {{}}, {{}}

    def sample():
        while True:
            time.sleep(0.002)
            for thread, step in list(loops.items()):
                frame, names = sys._current_frames().get(thread), []
                while frame is not None:
                    names.append(frame)
                    frame = frame.f_back
                step[0] += 1
                ours = [one for one in names if "dask_pkgsync" in one.f_code.co_filename]
                step[1] += bool(ours)
                if ours:
                    place = ours[0]
                    step[2].append(f"{{os.path.basename(place.f_code.co_filename)}}:{{place.f_lineno}} {{place.f_code.co_name}}")

    def timed(handle):
        thread = threading.get_ident()
        step = loops[thread] = [0, 0, []]
        started = time.thread_time()
        try:
            run(handle)
        finally:
            seconds = time.thread_time() - started
            loops.pop(thread, None)
            if step[1] and seconds > 0.003:
                with open(os.path.join(WHERE, f"{{role}}-{{os.getpid()}}"), "a") as file:
                    print(json.dumps([seconds * step[1] / step[0], seconds, step[2][0], step[2][-1]]), file=file)

    sys.setswitchinterval(0.001)
    Handle._run = timed
    threading.Thread(target=sample, daemon=True).start()


if role:
    watch()
'''
"""The text of the module, with the directory into which it writes."""


@dataclass(frozen=True)
class Hold:
    """A step of an event loop that our code has held."""

    seconds: float
    """Processor time of our code."""
    step: float
    """Processor time of the whole step."""
    places: tuple[str, str]
    """Where our code was at the first look, and at the last."""


def watched(site_packages: Path, where: Path) -> None:
    """Watch all processes of a virtual environment that start from now on."""
    where.mkdir(exist_ok=True)
    (site_packages / "bench_watcher.py").write_text(WATCHER.format(where=str(where)))
    (site_packages / "bench_watcher.pth").write_text("import bench_watcher\n")


def holds(where: Path, role: str) -> list[Hold]:
    """Return what the processes of a role have written, the longest hold first."""
    lines = [line for path in where.glob(f"{role}-*") for line in path.read_text().splitlines()]
    found = [Hold(ours, step, (first, last)) for ours, step, first, last in map(json.loads, lines)]
    return sorted(found, key=lambda hold: hold.seconds, reverse=True)
