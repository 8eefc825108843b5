"""The errors in a scheduler's answer to ``pkgsync_sync``, as plain data.

Pickled errors would need the same classes in the same modules in the client's release of dask-pkgsync.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.claims import ConflictError
from dask_pkgsync.model.comparison import comparison_from_wire, comparison_to_wire
from dask_pkgsync.model.errors import PkgsyncError, PolicyError, WarnsOnlyError
from dask_pkgsync.model.mismatch import EnvironmentMismatchError
from dask_pkgsync.model.relaunch import RelaunchRefusedError, obstacles_from_wire, obstacles_to_wire
from dask_pkgsync.model.reports.failure import SyncError, failure_from_wire, failure_to_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.texts import one_line, several_lines

if TYPE_CHECKING:
    from typing import Any


def error_to_wire(error: PkgsyncError) -> dict[str, Any]:  # noqa: PLR0911  # a case for each class
    """Return an error as plain data; an error of a class without a form of its own is sent as its text."""
    match error:
        case EnvironmentMismatchError(comparison=comparison, address=address):
            return {"kind": "mismatch", "comparison": comparison_to_wire(comparison), "address": one_line(address)}
        case ConflictError(owner=owner, comparison=comparison):
            return {"kind": "conflict", "owner": one_line(owner, 200), "comparison": comparison_to_wire(comparison)}
        case SyncError(failures=failures, adopted=adopted):
            entries = [failure_to_wire(failure) for failure in failures.values()]
            return {"kind": "sync", "failures": entries, "adopted": adopted}
        case RelaunchRefusedError(obstacles=obstacles):
            return {"kind": "relaunch", "obstacles": obstacles_to_wire(obstacles)}
        case WarnsOnlyError():
            return {"kind": "warns-only"}
        case PolicyError():
            return {"kind": "policy", "text": several_lines(str(error))}
        case _:
            return {"kind": "other", "text": several_lines(str(error))}


def error_from_wire(data: object, place: str = "error") -> PkgsyncError:  # noqa: PLR0911  # a case for each class
    """Check and read what `error_to_wire` wrote; an error of an unknown kind becomes a `PkgsyncError` with its text."""
    field = Field(data, place)
    match field.key("kind").text(20):
        case "mismatch":
            address = field.optional("address", "").text()
            return EnvironmentMismatchError(comparison_from_wire(field.key("comparison")), address)
        case "conflict":
            return ConflictError(field.key("owner").text(200), comparison_from_wire(field.key("comparison")))
        case "sync":
            failures = [failure_from_wire(entry.value, entry.place) for entry in field.key("failures").items()]
            return SyncError({failure.node: failure for failure in failures}, adopted=field.key("adopted").flag())
        case "relaunch":
            return RelaunchRefusedError(obstacles_from_wire(field.key("obstacles")))
        case "warns-only":
            return WarnsOnlyError()
        case "policy":
            return PolicyError(field.key("text").long_text())
        case kind:
            return PkgsyncError(field.optional("text", f"the scheduler refused the sync ({kind})").long_text())
