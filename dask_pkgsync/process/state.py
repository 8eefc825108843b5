"""Facts that this process must remember even if another copy of this package replaces our modules.

A client can bring another version of the package to a running process, and its modules replace ours in `sys.modules`.
The few facts that must survive that are kept in a module of their own, which is never replaced.
"""

from __future__ import annotations

import sys
import types
import uuid
from dataclasses import dataclass, field, fields
from typing import cast

_NAME = "_dask_pkgsync_process"


@dataclass
class ProcessState:
    """Facts about this process."""

    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Unique id of this process, also among hosts, where process ids repeat."""
    python: str = field(default_factory=lambda: sys.executable)
    """Path of the interpreter that the process was started with."""
    layer: str = ""
    """Directory of the layer that is active here, or empty."""
    built: str = ""
    """The publication of that layer (`Layer.built`): a layer that was changed is built anew in the same directory."""
    whole: str = ""
    """Directory of the conda prefix on whose interpreter this process was started for a layer; empty if it runs on the
    node's own."""
    beneath: str = ""
    """Directory of the conda prefix whose distributions are importable behind the active layer, although this process
    runs on another interpreter; empty if there is none."""
    own_environment: str = ""
    """Directory of the process's own environment (`process.own_environment`); empty if it has never run in a layer."""
    virtual_env: str | None = None
    """The variable VIRTUAL_ENV as it was before a layer was active; None if it was not set."""
    target: str = ""
    """Id of the target that this process was verified against, or empty."""
    uploads: str = ""
    """Directory into which Dask puts the files that clients upload to this process, or empty."""
    leftovers: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Version and identity of each distribution imported from a layer that is no longer active, by canonical name."""
    sources: dict[str, str] = field(default_factory=dict)
    """Digest of each editable project's source when this process was verified, by canonical name."""
    lacks: tuple[str, ...] = ()
    """What this process lacks of its active layer until it is started again, a sentence each."""


def this_process() -> ProcessState:
    """Return the facts about this process; it is always the same object."""
    holder = sys.modules.get(_NAME)
    if holder is None:
        holder = types.ModuleType(_NAME, __doc__)
        holder.state = ProcessState()  # type: ignore[attr-defined]
        sys.modules[_NAME] = holder
    for field_ in fields(ProcessState):  # an older release may have made the object, without fields that came later
        if not hasattr(holder.state, field_.name):
            setattr(holder.state, field_.name, getattr(ProcessState(), field_.name))
    return cast("ProcessState", holder.state)
