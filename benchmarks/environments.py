"""Environments as data: the fingerprint, the wire and back, what differs, and the plan of a node."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import msgpack
from malformed_messages import padded, presenting, with_other_versions

from benchmarks.race import Race, Scale
from dask_pkgsync import Environment, compare, scan
from dask_pkgsync.model.environments.environment import environment_from_wire, environment_to_wire
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.model.presentation import presented

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGEPACK = "msgpack, which carries it"


def plain(expected: Environment, found: Environment) -> list[str]:
    """Return the names whose versions are not the same text: the least that any comparison has to do."""
    here = {name: one.version for name, one in expected.distributions.items()}
    there = {name: one.version for name, one in found.distributions.items()}
    return [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]


def hashed(wire: dict[str, Any]) -> str:
    """Return a digest of the same data without looking at any of it."""
    return hashlib.sha256(json.dumps(wire, separators=(",", ":")).encode()).hexdigest()


def of_size(count: int) -> Iterator[Race]:
    """Do all of it with so many distributions."""
    wire = padded(environment_to_wire(scan(modules=False)), count)
    one, same = environment_from_wire(wire), environment_from_wire(wire)
    other = environment_from_wire(with_other_versions(wire))
    message = {"client": "Client-1", "versions": presenting(wire)}
    packed = msgpack.packb(wire)
    loops = max(1, 5_000 // count)

    def race(title: str, ours: Any, peer: Any, name: str) -> Race:
        return Race(f"{title}, {count:,} distributions", {"ours": ours}, {name: peer}, runs=20, loops=loops)

    # (A fingerprint is remembered, so a new object has to make it.)
    yield race("fingerprint", lambda: replace(one).fingerprint, lambda: hashed(wire), "json and sha256")
    yield race("to the wire", lambda: environment_to_wire(one), lambda: msgpack.packb(wire), MESSAGEPACK)
    yield race("checked and read", lambda: presented(message), lambda: msgpack.unpackb(packed), MESSAGEPACK)
    for title, found in (("nothing differs", same), ("everything differs", other)):
        floor = partial(plain, one, found)
        yield race(f"compare, {title}", partial(compare, one, found), floor, "names and versions as texts")
        yield race(f"plan, {title}", partial(make_plan, found, one), floor, "names and versions as texts")


def benchmark(scale: Scale) -> Iterator[Race]:
    """Do all of it for a usual environment, and for a very large one."""
    for count in scale.pick((250, 5_000), (250,)):
        yield from of_size(count)


if __name__ == "__main__":
    from benchmarks.__main__ import main

    main(["environments", *sys.argv[1:]])
