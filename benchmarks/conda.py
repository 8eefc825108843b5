"""Building a conda prefix from a warm package cache, against py-rattler alone and ``cp -rl`` of the finished prefix.

The prefix is built, every file of it verified, and published. The packages are those of the tests' channel (Python,
Dask, all that it needs, and a library), and more that are made by hand.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from conda_channel import Package, made_up_distribution, make_prefix, tiny_channel, usual_channel
from conda_prefixes import SMALL, build, scanned, tool

from benchmarks.race import Race, Scale
from dask_pkgsync.cache import trees
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.cache.trees import Tree
from dask_pkgsync.cache.verified import VerifiedFiles
from dask_pkgsync.conda.records import Installed
from dask_pkgsync.conda.verify import verify
from dask_pkgsync.scanning.conda_files import record_path
from dask_pkgsync.scanning.conda_meta import forget, prefix_on
from dask_pkgsync.scanning.file_states import SETTLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.layers.layer import Layer

USUAL = ("python", "distributed", "libfoo", "twins", "greeter")
_INSTALL = """
import asyncio, os, sys
from pathlib import Path
tool, client, cache, prefix, final = sys.argv[1:]
sys.path.append(tool)
import rattler
records = [rattler.PrefixRecord.from_path(path) for path in Path(client, "conda-meta").glob("*.json")]
options = {"cache_dir": Path(cache), "show_progress": False, "alternative_target_prefix": final}
asyncio.run(rattler.install(records, prefix, **options))
os._exit(0)
"""


def _made_by_hand(name: str) -> Package:
    """Return a package with as many modules as packages have on average."""
    package = Package(name, "1.0", "pyh0_0", ("python >=3.8",), noarch="python")
    made_up_distribution(package, name, "1.0")
    for number in range(120):
        place = f"site-packages/{name.replace('-', '_')}_files/part{number // 20}/module{number}.py"
        package.add(place, f"VALUE = {number}\n" + "# as long as modules often are\n" * 200)
    return package


def benchmark(scale: Scale) -> Iterator[Race]:
    """Build prefixes of one client's environment again and again."""
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-", ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        channel = scale.pick(usual_channel, tiny_channel)(root / "channel")
        more = [_made_by_hand(f"made-by-hand-{number}") for number in range(scale.pick(40, 2))]
        channel.add(*more)
        channel.index()
        specs = [*scale.pick(USUAL, SMALL), *(package.name for package in more)]
        client = make_prefix(channel.url, root / "client", specs, root / "cache-of-client")
        packages = scanned(client)
        cache, numbers = open_cache(str(root / "cache")), count()

        def built() -> Layer:
            shutil.rmtree(cache.leases, ignore_errors=True)
            for old in cache.layers.iterdir():
                trees.move(old, root / f"old{next(numbers)}")  # removing is not what is measured
            return build(packages, cache)

        def py_rattler() -> None:
            to = [str(root / f"bare{next(numbers)}"), str(root / "final")]
            places = [str(tool()), str(client), str(root / "cache-of-client" / "pkgs")]
            subprocess.run([sys.executable, "-I", "-S", "-c", _INSTALL, *places, *to], check=True)

        def copy() -> None:
            subprocess.run(["cp", "-rlP", str(client), str(root / f"copy{next(numbers)}")], check=True)

        files = len(Tree(str(client)).files)
        built()
        title = f"a prefix of {len(packages)} conda packages, {files} files"
        yield Race(
            f"{title}, from a warm package cache",
            {"prefix, verified and published": built},
            {"py-rattler alone, in a process": py_rattler, "cp -rlP of the prefix": copy},
            {"py-rattler alone, in a process": "<= 1.5"},
        )

        layer = built()
        installed = [
            Installed(one, json.loads(record_path(layer.root, one).read_bytes())["paths_data"]["paths"])
            for one in packages
        ]
        unknown = open_cache(str(root / "nothing-verified"))
        yield Race(
            f"every file of {title} verified against its record",
            {"verified on this host before": lambda: verify(Tree(str(layer.root)), installed, VerifiedFiles(cache))},
            {
                "one look at each file": lambda: Tree(str(layer.root)),
                "for the first time": lambda: verify(Tree(str(layer.root)), installed, VerifiedFiles(unknown)),
            },
            {"one look at each file": "<= 2"},
            runs=9,
        )

        records = _records(client, root / "many", scale.pick(300, 10))
        site_packages = str(root / "many" / "lib" / "python3.0" / "site-packages")
        size = sum(record.stat().st_size for record in records)
        sleep(SETTLED / 1e9)  # nothing is remembered of files that have just been written
        yield Race(
            f"the records of {len(records)} conda packages ({size / 1e6:.0f} MB) scanned",
            {"scanned": lambda: _scanned_anew(site_packages), "again": lambda: prefix_on([site_packages])},
            {
                "read, and parsed but for what is said of each file": lambda: [_needed(record) for record in records],
                "read, and parsed": lambda: [json.loads(record.read_bytes()) for record in records],
            },
            {"read, and parsed but for what is said of each file": "<= 3"},
            warm=True,
        )


def _records(client: Path, prefix: Path, number: int) -> list[Path]:
    """Write records like those of a prefix, until there are so many; return their paths."""
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "lib" / "python3.0" / "site-packages").mkdir(parents=True)
    texts = [json.loads(path.read_text()) for path in sorted((client / "conda-meta").glob("*.json"))]
    for index in range(number):
        data = texts[index % len(texts)]
        data = {**data, "name": f"{data['name']}-{index}"}
        path = prefix / "conda-meta" / f"{data['name']}-{data['version']}-{data['build']}.json"
        path.write_text(json.dumps(data, indent=2))
    return sorted((prefix / "conda-meta").glob("*.json"))


def _scanned_anew(site_packages: str) -> object:
    forget()
    return prefix_on([site_packages])


def _needed(record: Path) -> object:
    """Read a record, and parse what is needed of it: all but what is said of each file, which comes last.

    The paths of the files are needed, to know which distributions belong to a package.
    """
    text = record.read_bytes()
    return json.loads(text[: text.index(b'\n  "paths_data": {')].rstrip(b",") + b"}")


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["conda", *sys.argv[1:]])
