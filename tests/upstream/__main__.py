"""Run distributed's own tests without and with the plugin: ``python tests/upstream``. README.md says more."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from outcomes import FILE, Suspect, Verdict, compare, header, node_id, row
from surroundings import OTHERS, CannotRunError, Surroundings, clone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FILES = (
    "distributed/tests/test_versions.py",
    "distributed/tests/test_core.py",
    "distributed/tests/test_event_logging.py",
    "distributed/tests/test_locks.py",
    "distributed/tests/test_semaphore.py",
    "distributed/tests/test_preload.py",
    "distributed/tests/test_tls_functional.py",
    "distributed/tests/test_chaos.py",
    "distributed/tests/test_stress.py",
    "distributed/tests/test_failed_workers.py",
    "distributed/tests/test_nanny.py",
    "distributed/tests/test_worker.py",
    "distributed/tests/test_scheduler.py",
    "distributed/tests/test_client.py",
    "distributed/http",
    "distributed/diagnostics/tests",
    "distributed/deploy/tests/test_local.py",
    "distributed/deploy/tests/test_spec_cluster.py",
    "distributed/deploy/tests/test_adaptive.py",
    "distributed/deploy/tests/test_adaptive_core.py",
    "distributed/deploy/tests/test_slow_adaptive.py",
    "distributed/deploy/tests/test_cluster.py",
    "distributed/deploy/tests/test_deploy_utils.py",
    "distributed/deploy/tests/test_subprocess.py",
)
"""Connecting, registering, plugins, events, preloads, failures, restarts. Of deploy all but ssh: it needs an sshd."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and return the exit status: 0, 1 if a failure is ours, 2 if something could not be run at all."""
    options = _parser().parse_args(argv)
    work = Path(options.work or tempfile.mkdtemp(prefix="dask-pkgsync-upstream-")).absolute()
    work.mkdir(parents=True, exist_ok=True)
    print(f"What pytest writes is in {work}", flush=True)
    try:
        checkout = Path(options.checkout).absolute() if options.checkout else clone(options.tag, work / "distributed")
        slow = [] if options.quick else ["--runslow"]
        here = Surroundings(checkout, work, options.limit, [*slow, *options.pytest], options.also)
        here.install(options.tag, options.python)
        here.check()
        files = list(_files(checkout, options.file or FILES))
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return 2
    suspects, both = _run_all(here, files, options.runs)
    for name in both:
        print(f"in both: {name}")
    for suspect in suspects:
        print(suspect)
    if any(suspect.verdict is Verdict.OURS for suspect in suspects):
        return 1
    return 2 if set(both) & set(files) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python tests/upstream", description=__doc__)
    parser.add_argument("file", nargs="*", help="files and folders, relative to the checkout")
    parser.add_argument("--tag", default=version("distributed"), help="version of dask and distributed (%(default)s)")
    parser.add_argument("--checkout", help="distributed's source, if it is there already; it is installed editable")
    parser.add_argument("--work", help="folder for the virtual environment and results, used again where it is there")
    parser.add_argument("--python", default=sys.executable, help="the Python to run them on")
    parser.add_argument("--also", action="append", default=[], choices=OTHERS, help="who else preloads the plugin")
    parser.add_argument("--runs", type=int, default=2, help="further runs of what failed only with the plugin")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one file (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="leave out what upstream marks as slow")
    parser.add_argument("--pytest", action="append", default=[], help="an argument for pytest, such as --pytest=-x")
    return parser


def _files(checkout: Path, names: Iterable[str]) -> Iterator[str]:
    """Return the files of tests; those that this version has not, are left out."""
    found = 0
    for name in names:
        path = checkout / name
        for one in sorted(path.rglob("test_*.py")) if path.is_dir() else [path] * path.is_file():
            found += 1
            yield str(one.relative_to(checkout))
    if not found:
        raise CannotRunError(f"no tests in {checkout}")


def _run_all(here: Surroundings, files: Sequence[str], runs: int) -> tuple[list[Suspect], list[str]]:
    """Run every file without and with the plugin, print the table; return what failed only with it, and in both."""
    width = max(map(len, files)) + 2
    print(header(width), flush=True)
    total: Counter[str] = Counter()
    seconds = [0.0, 0.0]
    found: list[Suspect] = []
    both: list[str] = []
    for file in files:
        unplugged, first = here.run(file, [FILE], plugged=False)
        plugged, second = here.run(file, [FILE], plugged=True)
        compared = compare(unplugged, plugged)
        total.update(compared.counts)
        seconds = [seconds[0] + first, seconds[1] + second]
        print(row(width, file, compared.counts, (first, second)), flush=True)
        found += _suspects(here, file, compared.suspects, runs)
        both += (node_id(file, name) for name in compared.both)
    print(row(width, "all", total, seconds), flush=True)
    return found, both


def _suspects(here: Surroundings, file: str, names: Sequence[str], runs: int) -> list[Suspect]:
    """Run what failed only with the plugin again, in turn without and with it."""
    suspects = {name: Suspect(node_id(file, name)) for name in names}
    for number in range(1, runs + 1) if suspects else ():
        unplugged, _ = here.run(file, names, plugged=False, number=number)
        plugged, _ = here.run(file, names, plugged=True, number=number)
        for name, suspect in suspects.items():
            suspect.unplugged.append(unplugged.get(name))
            suspect.plugged.append(plugged.get(name))
    return list(suspects.values())


if __name__ == "__main__":
    sys.exit(main())
