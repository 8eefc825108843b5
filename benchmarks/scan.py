"""Scanning an environment of more than a hundred distributions, against what people use today.

All of it in turn in one run of one process, with warm files, so that only the ratios count. What starts a process of
its own (``uv pip list``, ``pip list``) is timed with that process, and may keep its bytecode.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from clusters import CRITICAL_PINS, SOURCE, Venv, base_python, surroundings, uv
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from benchmarks.checkout import imports
from benchmarks.race import Measured, Race, Scale
from dask_pkgsync import scan
from dask_pkgsync.scanning.consistency import conflicts
from dask_pkgsync.scanning.content import _content_of, content_of, own_files
from dask_pkgsync.scanning.installed import _LISTINGS, _READ, scan_installed
from dask_pkgsync.scanning.snapshot import verified

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACKAGES = ["jupyter", "scikit-learn", "matplotlib", "statsmodels", "xarray", "zarr", "sphinx", "mypy", "bokeh"]
ENOUGH = 100
LIMIT = 0.06
"""Seconds that a scan in a new process may take beside the start of Python."""

SCAN = "import dask_pkgsync; dask_pkgsync.scan()"
FIRST = f"""
import sys, time
{imports(scan_installed=scan_installed)}
sys.path.remove(sys.argv[1])
started = time.perf_counter()
scan_installed()
print(time.perf_counter() - started)
"""
"""The first scan of a process, as a node does it: nothing is cached, and the wheel tags are still to be found."""


def bare(site: str) -> list[tuple[str, bytes, bytes]]:
    """Return what any scan has to read, and do nothing with it: the floor."""
    found = []
    with os.scandir(site) as listing:
        names = [entry.name for entry in listing if entry.name.endswith(".dist-info")]
    for name in names:
        directory = f"{site}{os.sep}{name}{os.sep}"
        found.append((name, _bytes(f"{directory}INSTALLER"), _bytes(f"{directory}direct_url.json")))
    return found


def _bytes(path: str) -> bytes:
    """Return what a file holds, in the plainest way."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""


def by_importlib(site: str) -> dict[str, str]:
    """Return names and versions as the standard library finds them."""
    found = importlib.metadata.distributions(path=[site])
    return {canonicalize_name(one.metadata["Name"]): one.version for one in found}


def run(*argv: str, cwd: Path | None = None, **env: str) -> float:
    """Run a command; return the seconds that it took."""
    started = perf_counter()
    subprocess.run(argv, capture_output=True, check=True, env=surroundings(**env), cwd=cwd)
    return perf_counter() - started


def environment(root: Path, packages: Sequence[str], enough: int) -> tuple[Venv, str]:
    """Make the environment that is scanned; return it with its site-packages."""
    venv = Venv(root / "venv")
    uv(["venv", "--seed", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, *CRITICAL_PINS, *packages, str(SOURCE)])
    site = venv.run("import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    expected = by_importlib(site)
    assert len(expected) >= enough
    assert {name: one.version for name, one in scan([site]).distributions.items()} == expected
    return venv, site


def first_scan(venv: Venv) -> Measured:
    """Return the seconds of the first scan in a new process, without its start and imports."""
    return Measured(venv.run(FIRST, str(SOURCE), PYTHONPATH=str(SOURCE)).stdout)


def scan_changed(site: str) -> None:
    """Scan as after a change of every distribution, with their content digests known."""
    _LISTINGS.forget()
    _READ.forget()
    scan([site])


def contents(dist_infos: Sequence[str]) -> None:
    """Work out the content digests, of which none is remembered."""
    _content_of.cache_clear()
    for dist_info in dist_infos:
        content_of(dist_info)


def benchmark(scale: Scale) -> Iterator[Race]:
    """Scan."""
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-", ignore_cleanup_errors=True) as root:
        venv, site = environment(Path(root), *scale.pick((PACKAGES, ENOUGH), ([], 1)))
        yield Race(
            f"{len(by_importlib(site))} distributions",
            {
                "scan(), nothing changed": lambda: scan([site]),
                "scan(), all changed": lambda: scan_changed(site),
                "the first scan of a process": lambda: first_scan(venv),
            },
            {
                "bare scandir and read": lambda: bare(site),
                "importlib.metadata, name and version": lambda: by_importlib(site),
                "uv pip list": lambda: run(find_uv_bin(), "--no-config", "pip", "list", "--python", venv.python),
                "pip list": lambda: run(venv.python, "-m", "pip", "list", "--disable-pip-version-check"),
            },
            {"bare scandir and read": "< 1", "uv pip list": "< 1"},
            runs=15,
            warm=True,
        )
        bare_python = {"python -c pass": lambda: run(venv.python, "-c", "pass")}
        work = Path(root) / "work"
        work.mkdir()
        limit = f"the same, and {LIMIT} s"

        def new_process(cache: str) -> float:
            return run(venv.python, "-c", SCAN, cwd=work, DASK_PKGSYNC__CACHE_DIRECTORY=cache)

        yield Race(
            "a scan in a new process",
            {
                "import dask_pkgsync, and scan()": lambda: new_process(f"{root}/cache"),
                "the first on a host": lambda: new_process(tempfile.mkdtemp(dir=root)),
            },
            {**bare_python, limit: lambda: Measured(run(venv.python, "-c", "pass") + LIMIT)},
            {limit: "<= 1"},
            runs=15,
            warm=True,
        )
        yield Race(
            "the command",
            {
                "dask-pkgsync scan": lambda: run(str(venv.root / "bin" / "dask-pkgsync"), "scan", "--no-modules"),
                "dask pkgsync scan": lambda: run(str(venv.root / "bin" / "dask"), "pkgsync", "scan", "--no-modules"),
            },
            {"uv pip list": lambda: run(find_uv_bin(), "--no-config", "pip", "list", "--python", venv.python)}
            | bare_python,
            {"uv pip list": "<= 5"},
            runs=7,
            warm=True,
        )
        dist_infos = [str(path) for path in sorted(Path(site).glob("*.dist-info"))]
        files = [f"{site}/{file.path}" for dist_info in dist_infos for file in own_files(dist_info)]
        yield Race(
            f"content digests of {len(dist_infos)} distributions, for the first time",
            {"from RECORD": lambda: contents(dist_infos)},
            {"read every RECORD": lambda: [_bytes(f"{dist_info}/RECORD") for dist_info in dist_infos]},
            runs=15,
            warm=True,
        )
        scanned = scan([site])
        yield Race(
            "unmet requirements, of an environment that was checked before",
            {"conflicts": lambda: conflicts(scanned, [site])},
            {"read every METADATA": lambda: [_bytes(f"{dist_info}/METADATA") for dist_info in dist_infos]},
            {"read every METADATA": "<= 0.1"},
            runs=15,
            warm=True,
        )
        yield Race(
            f"a look at {len(files)} files",
            {"verified": lambda: verified(scanned, [site])},
            {"os.stat of each": lambda: [os.stat(path) for path in files]},  # noqa: PTH116
            {"os.stat of each": "<= 1.5"},
            runs=15,
            warm=True,
        )


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["scan", *sys.argv[1:]])
