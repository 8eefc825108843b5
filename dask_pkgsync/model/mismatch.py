"""The error about two environments that differ, and the warning that replaces it in mode ``warn``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PkgsyncError

if TYPE_CHECKING:
    from dask_pkgsync.model.comparison import Comparison


class EnvironmentMismatchError(PkgsyncError, ImportError):
    """The environments of a client and its cluster differ in a package that must be the same in both.

    It is also an `ImportError`, because Dask itself raises that in ``Client(...)`` for a refused client.

    Attributes
    ----------
    comparison : Comparison
        Every difference, critical ones first.
    address : str
        The address of the scheduler; empty if the cluster cannot be relaunched.
    """

    def __init__(self, comparison: Comparison, address: str = "") -> None:
        super().__init__(comparison, address)
        self.comparison, self.address = comparison, address

    def __str__(self) -> str:
        """List the differences and say what to do."""
        ours, theirs = self.comparison.expected_label, self.comparison.found_label
        critical = " in packages that must be the same everywhere" if self.comparison.only_critical else ""
        return (
            f"The environment of the {theirs} does not match the {ours}{critical}.\n\n{self.comparison}\n\n"
            f"Install the versions of the {ours} on the {theirs}, or the other way round, and connect again."
            + self._commands()
        )

    def _commands(self) -> str:
        """Return the commands that make cluster and client match."""
        if not self.address or not self.comparison.critical:
            return ""
        return (
            f"\n  to make the cluster match this client: dask pkgsync sync {self.address} --relaunch idle"
            f"\n  to make this client match the cluster: dask pkgsync run --environment {self.address} -- python"
        )


class EnvironmentMismatchWarning(UserWarning):
    """The cluster has other packages than this client, and only warns (``pkgsync.mode`` is ``warn``).

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
