"""The interpreter of a client, unpacked once per host and published as layers are: others run on it."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING

from dask_pkgsync.cache.trees import Tree
from dask_pkgsync.interpreters.unpacking import unpack
from dask_pkgsync.layers.layer import Layer
from dask_pkgsync.layers.layout import library_of
from dask_pkgsync.layers.publication import altered, built_aside, existing, facts_about, found_or_built, publish
from dask_pkgsync.model.blobs import request_for_interpreter

if TYPE_CHECKING:
    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.layers.manifest import Changes
    from dask_pkgsync.model.environments.interpreter import Interpreter

FORMAT = 1
"""A number that changes whenever a new release would unpack the same archive in another way."""


def sent_interpreter(interpreter: Interpreter, cache: Cache, fetch: Fetch, *, timeout: float) -> Layer:
    """Return an interpreter of the client: unpacked earlier, from any client that had the same release, or now. Blocks.

    Parameters
    ----------
    interpreter : Interpreter
    cache : Cache
    fetch : callable
        Gets it from the client; it is not called if it is there.
    timeout : float
        Seconds to wait for another process that unpacks it.

    Raises
    ------
    LayerError
        If the client cannot give it.
    """
    facts = [FORMAT, interpreter.implementation, interpreter.version, interpreter.tag]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    final = cache.layers / digest

    def anew(changes: Changes) -> Layer:
        request = request_for_interpreter(interpreter)
        archive, _ = fetch([request])[request]
        with built_aside(cache) as aside:
            size = unpack(archive, aside / "interpreter")
            layer = Layer(
                digest, final, complete=True, pins=(), fetched=size, built=uuid.uuid4().hex,
                altered=altered(existing(cache, digest), changes), whole=str(final),
                python_directory=library_of(interpreter),
            )  # fmt: skip
            publish(Tree(str(aside / "interpreter")), final, facts_about(layer))
            return layer

    return found_or_built(cache, digest, anew, wait=timeout)
