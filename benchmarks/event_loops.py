"""How long our code holds the event loops of a cluster's processes: a watcher in each of them, and what it has written.

`WATCHER` is a module that a ``.pth`` file imports in every process of a virtual environment. It times each step of the
process's event loop by the processor time of its thread, as other processes make the time by the clock longer. Another
thread looks at the stack every few milliseconds: a step counts as ours for that part of the looks that saw our code.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ROLES = ("scheduler", "nanny", "worker")
"""The processes that are watched, as the watcher names them."""

WATCHER = """
import json, os, sys, threading, time

WHERE = {where!r}
COMMAND = " ".join(sys.orig_argv)
ROLES = {{" scheduler ": "scheduler", "spawn_main": "worker", " worker ": "nanny"}}


def watch(role):
    from asyncio.events import Handle

    run, steps = Handle._run, {{}}

    def place_of_ours(frame):
        while frame is not None:
            if "dask_pkgsync" in frame.f_code.co_filename:
                return f"{{frame.f_code.co_filename}}:{{frame.f_lineno}}"
            frame = frame.f_back

    def look():
        while True:
            time.sleep(0.002)
            for thread, looks in list(steps.items()):
                looks.append(place_of_ours(sys._current_frames().get(thread)))

    def timed(handle):
        looks = steps[threading.get_ident()] = []
        started = time.thread_time()
        try:
            run(handle)
        finally:
            seconds = time.thread_time() - started
            steps.pop(threading.get_ident(), None)
            places = [place for place in looks if place]
            if places and seconds > 0.001:
                ours = seconds * len(places) / len(looks)
                hold = {{"ours": ours, "step": seconds, "places": [places[0], places[-1]]}}
                with open(os.path.join(WHERE, f"{{role}}-{{os.getpid()}}"), "a") as file:
                    print(json.dumps(hold), file=file)

    sys.setswitchinterval(0.001)
    Handle._run = timed
    threading.Thread(target=look, daemon=True).start()


for part, role in ROLES.items():
    if part in COMMAND:
        watch(role)
        break
"""
"""The text of the module, with the directory into which it writes."""


def watched(site_packages: Path, where: Path) -> None:
    """Watch all processes of a virtual environment that start from now on."""
    where.mkdir(exist_ok=True)
    (site_packages / "bench_watcher.py").write_text(WATCHER.format(where=str(where)))
    (site_packages / "bench_watcher.pth").write_text("import bench_watcher\n")


def take_longest(where: Path) -> dict[str, float]:
    """Return the longest hold of each role, in seconds of processor time, and forget what was written."""
    longest = dict.fromkeys(ROLES, 0.0)
    for path in where.iterdir():
        role = path.name.partition("-")[0]
        holds = [json.loads(line)["ours"] for line in path.read_text().splitlines()]
        longest[role] = max(longest[role], *holds)
        path.unlink()
    return longest
