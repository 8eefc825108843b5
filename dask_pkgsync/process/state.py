"""What this process must remember, whichever version of this package is loaded into it next.

A process can be given a newer copy of the package while it runs (another client, another version), which replaces our
modules. The few facts that must survive that are kept in a module of their own, which nothing replaces.
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
    """Tells this process from all others, also from one of the same number on another host."""
    python: str = field(default_factory=lambda: sys.executable)
    """The interpreter that the process was started with."""
    layer: str = ""
    """Directory of the layer that is active here, or empty."""
    target: str = ""
    """Name of the target that this process was verified against, or empty."""
    leftovers: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Version and identity of what was imported from a layer that is not active any more, by name."""
    sources: dict[str, str] = field(default_factory=dict)
    """Of editable projects in the base: by name, the digest that their source had when the process was verified."""


def this_process() -> ProcessState:
    """Return the facts about this process, always the same object."""
    holder = sys.modules.get(_NAME)
    if holder is None:
        holder = types.ModuleType(_NAME, __doc__)
        holder.state = ProcessState()  # type: ignore[attr-defined]
        sys.modules[_NAME] = holder
    for field_ in fields(ProcessState):  # an older release may have made the object, without fields that came later
        if not hasattr(holder.state, field_.name):
            setattr(holder.state, field_.name, getattr(ProcessState(), field_.name))
    return cast("ProcessState", holder.state)
