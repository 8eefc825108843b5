"""Run benchmarks: ``python -m benchmarks``, in an environment that has what the ``test`` extra brings.

Each row is printed with what it is compared with, and the ratio; nothing fails for being slow. All of them take long
and want a machine that does nothing else; with ``--small`` everything is done once, with little to do, to see that it
works.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks import CHECKOUT, results
from benchmarks.checkout import PACKAGE, about
from benchmarks.picture import drawn
from benchmarks.race import Race, Scale, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.table import Table

NAMES = (
    *("scan", "environments", "handshakes", "startup", "restarts", "layers", "sync", "local_code", "gate"),
    *("platforms", "run", "conda", "conda_archives", "memory", "fuzz"),
)
"""The modules, the quickest first. Each has a function ``benchmark``, which yields what is to be timed, or was."""


def tables(name: str, scale: Scale, runs: int | None) -> Iterator[Table]:
    """Run one benchmark."""
    for found in importlib.import_module(f"benchmarks.{name}").benchmark(scale):
        if isinstance(found, Race):
            yield measure(found, 1 if scale.small else runs or found.runs)
        else:
            yield found


def run(names: Sequence[str], scale: Scale, runs: int | None) -> tuple[list[Table], list[str]]:
    """Run benchmarks and print their tables; return these, and the names of those that failed."""
    found, failed = [], []
    for name in names:
        started = perf_counter()
        print(f"\n=== {name}", flush=True)
        try:
            for table in tables(name, scale, runs):
                found.append(table)
                print(f"\n{table}", flush=True)
        except Exception:  # noqa: BLE001  # the others are run all the same
            traceback.print_exc()
            failed.append(name)
        print(f"\n({name} took {perf_counter() - started:.1f} s)", flush=True)
    return found, failed


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; by default all")
    parser.add_argument("--small", action="store_true", help="everything once, in a few seconds")
    parser.add_argument("--runs", type=int, help="how often, instead of what each benchmark thinks right")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows there; by default benchmarks.json")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them there; by default benchmarks.svg")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with the rows of an earlier run")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if PACKAGE.parent != CHECKOUT:
        parser.error(f"{PACKAGE} would be measured, and not the checkout {CHECKOUT}")
    earlier = results.read(options.against) if options.against else None
    what = about()
    print("".join(f"{name + ':':8} {text}\n" for name, text in what.items()), end="")
    found, failed = run(options.names or NAMES, Scale(options.small), options.runs)
    if not options.small:
        options.json = options.json or Path("benchmarks.json")
        options.picture = options.picture or Path("benchmarks.svg")
    if options.json:
        results.write(options.json, what, found)
    if options.picture:
        options.picture.write_text(drawn(found, f"{what['commit']}; {what['python']}"))
    if earlier:
        print(f"\n{results.beside(found, earlier)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
