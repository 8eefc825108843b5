"""Two environments that differ: as an error, and as a warning where differences are only told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PkgsyncError

if TYPE_CHECKING:
    from dask_pkgsync.model.comparison import Comparison


class EnvironmentMismatchError(PkgsyncError, ImportError):
    """Two environments differ in a package that must be the same everywhere.

    Also an `ImportError`, because that is what Dask's own handshake raises for a refused client.

    Attributes
    ----------
    comparison : Comparison
        Every difference, critical ones first.
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison)
        self.comparison = comparison

    def __str__(self) -> str:
        """Say what differs and what to do."""
        ours, theirs = self.comparison.expected_label, self.comparison.found_label
        critical = " in packages that must be the same everywhere" if self.comparison.only_critical else ""
        return (
            f"The environment of the {theirs} does not match the {ours}{critical}.\n\n{self.comparison}\n\n"
            f"Install the versions of the {ours} on the {theirs}, or the other way round, and connect again."
        )


class EnvironmentMismatchWarning(UserWarning):
    """The cluster has other packages than this client, and its operator wants that to be told only.

    Attributes
    ----------
    comparison : Comparison
        Every difference, critical ones first.
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison)
        self.comparison = comparison

    def __str__(self) -> str:
        """List the differences."""
        return (
            "this cluster has other packages than this client, and is configured to install nothing (pkgsync.mode is "
            f"warn):\n{self.comparison}"
        )
