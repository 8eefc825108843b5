"""What a client with conda packages does before they travel: a look at their files, and archives that are rebuilt.

The packages are made up: 300 with as many small files as those of a large environment, and one of 100 MB. Files that
name their prefix are in the tests (`tests/conda/test_archives.py`); hardly any package has many.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.race import Race, Scale
from dask_pkgsync.conda.rebuilding import rebuild
from dask_pkgsync.model.environments.conda import CondaPackage
from dask_pkgsync.scanning.conda_content import _LISTED, look_at
from dask_pkgsync.scanning.conda_files import read_record, record_path
from dask_pkgsync.scanning.file_states import SETTLED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SITE = "lib/python3.12/site-packages"


def installed(prefix: Path, name: str, contents: Sequence[bytes]) -> CondaPackage:
    """Install a package with these files, as conda would."""
    package = CondaPackage(name, "1.0", "py312h0_0", subdir="linux-64", sha256="0" * 64)
    directory = prefix / SITE / name
    directory.mkdir(parents=True)
    paths = []
    for number, content in enumerate(contents):
        path = directory / f"module_{number}.py"
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        entry = {"_path": f"{SITE}/{name}/{path.name}", "path_type": "hardlink", "size_in_bytes": len(content)}
        paths.append({**entry, "sha256": digest, "sha256_in_prefix": digest})
    facts = {"name": name, "version": package.version, "build": package.build, "subdir": package.subdir}
    facts |= {"files": [entry["_path"] for entry in paths], "paths_data": {"paths_version": 1, "paths": paths}}
    record = record_path(prefix, package)
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps(facts, indent=2))
    return package


def look_first(packages: Sequence[CondaPackage], prefix: Path) -> None:
    """Look at packages of which nothing is remembered."""
    _LISTED.forget()
    look_at(packages, prefix)


def rebuilt(package: CondaPackage, prefix: Path, directory: Path) -> None:
    """Rebuild the archive of a package, with all checks."""
    rebuild(package, read_record(record_path(prefix, package)), prefix, directory)


def copied(source: Path, target: Path) -> None:
    """Copy a directory: the floor."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def compressed(source: Path, target: Path) -> None:
    """Write what the other format of conda packages is, as quickly as that can be."""
    with tarfile.open(target, "w:bz2", compresslevel=1) as tar:
        tar.add(source, arcname=source.name)


def benchmark(scale: Scale) -> Iterator[Race]:
    """Look at conda packages, and rebuild one."""
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-", ignore_cleanup_errors=True) as root:
        prefix, out = Path(root) / "prefix", Path(root) / "out"
        out.mkdir()
        count, files = scale.pick((300, 130), (10, 10))
        packages = [
            installed(prefix, f"package{one}", [f"# {one} {number}\n".encode() * 50 for number in range(files)])
            for one in range(count)
        ]
        time.sleep(SETTLED / 1e9 + 0.1)  # nothing is remembered of files that have changed just now
        paths = [f"{prefix}/{file.path}" for one in packages for file in read_record(record_path(prefix, one)).files]
        yield Race(
            f"a look at {len(paths)} files of {count} conda packages",
            {
                "look_at": lambda: look_at(packages, prefix),
                "look_at, for the first time": lambda: look_first(packages, prefix),
            },
            {"os.lstat of each": lambda: [os.lstat(path) for path in paths]},
            {"os.lstat of each": "<= 1.5"},
            runs=9,
            warm=True,
        )
        large = installed(prefix, "large", [os.urandom(1_000_000) for _ in range(scale.pick(100, 3))])
        yield Race(
            "the archive of an installed conda package of 100 MB",
            {"rebuilt, each file verified": lambda: rebuilt(large, prefix, out)},
            {
                "copy of its files": lambda: copied(prefix / SITE / "large", out / "copy"),
                ".tar.bz2, level 1": lambda: compressed(prefix / SITE / "large", out / "large.tar.bz2"),
            },
            {"copy of its files": "<= 5", ".tar.bz2, level 1": "<= 0.2"},
            runs=3,
        )


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["conda_archives", *sys.argv[1:]])
