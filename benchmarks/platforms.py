"""Resolving an environment of another platform for a node, against one bare run of uv over the same packages."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from clusters import CRITICAL, SOURCE, surroundings
from uv import find_uv_bin

from benchmarks.race import Race, Scale
from dask_pkgsync import Distribution, Environment, scan
from dask_pkgsync.installers.uv import Uv
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.target import Target
from dask_pkgsync.process.resolving import part_here, resolve_with

if TYPE_CHECKING:
    from collections.abc import Iterator

ON_NO_INDEX = {"only-there", "patched", "built-here"}


def asked(limit: int) -> Environment:
    """Return the environment of a client on macOS, with this Python's X.Y and critical packages."""
    here = scan(modules=False)
    data = json.loads((SOURCE / "tests" / "environments" / "macos-arm64.json").read_text())
    data["interpreter"] |= {"version": here.interpreter.version, "tag": ""}
    environment = Environment.from_json(json.dumps(data))
    kept = [one for name, one in environment.distributions.items() if name not in ON_NO_INDEX][:limit]
    critical = [Distribution(name, here.distributions[name].version) for name in CRITICAL]
    return environment.with_distributions([*critical, *kept])


def benchmark(scale: Scale) -> Iterator[Race]:
    """Resolve."""
    with tempfile.TemporaryDirectory(prefix="pkgsync-bench-") as root:
        cache = Path(root) / "uv"
        target = Target(asked(scale.pick(1000, 8)), Policy())
        uv = Uv(Path(find_uv_bin()), Path(sys.executable), cache)
        resolution = resolve_with(uv, target, timeout=600, indexes=OWN)
        pins = Path(root) / "pins.txt"
        found = resolution.environment.distributions.values()
        pins.write_text("\n".join(f"{one.name}=={one.version}" for one in found))
        known = Target(target.environment, Policy(), resolutions=(resolution,))

        def bare() -> None:
            argv = [*uv.common(), "pip", "compile", str(pins), "--python", sys.executable, "--only-binary", ":all:"]
            subprocess.run(argv, capture_output=True, check=False, env=surroundings())

        yield Race(
            f"{len(target.environment.distributions)} packages of a client on macOS, for this platform, warm",
            {
                "resolve, once for all nodes": lambda: resolve_with(uv, target, timeout=600, indexes=OWN),
                "a node that joins": lambda: part_here(known),
            },
            {"uv pip compile of the same pins": bare},
            {"uv pip compile of the same pins": "<= 1.3"},
            runs=7,
            warm=True,
        )


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["platforms", *sys.argv[1:]])
