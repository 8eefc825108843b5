"""What the command of a node needs is brought along into the client's environment."""

from __future__ import annotations

import pytest

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.target import Target
from dask_pkgsync.process.brought import brought, with_needs
from dask_pkgsync.scanning.installed import scan_installed, this_interpreter


def target_with(*versions: tuple[str, str]) -> Target:
    """Return a target with these distributions."""
    return Target(Environment.of(this_interpreter(), [Distribution(*version) for version in versions]), Policy())


def test_a_preload_comes_with_what_it_requires() -> None:
    """The distribution of a module is added in the node's version, and what it requires where the target lacks it."""
    base = scan_installed()
    target, notes = with_needs(target_with(("six", "1.17.0")), ["hypothesis.strategies", "json"])
    added = {name: one.version for name, one in target.environment.distributions.items()}
    assert added.pop("six") == "1.17.0"
    assert {"hypothesis", "sortedcontainers"} <= added.keys(), "on some Pythons it requires more"
    assert added == {name: base.distributions[name].version for name in added}
    assert len(notes) == len(added)
    assert notes[0].startswith(f"hypothesis {added['hypothesis']} was brought along")


def test_what_the_target_has_stays_as_it_is() -> None:
    """Nothing is added for the standard library, for Dask, and for what the client has itself."""
    target = target_with(("hypothesis", "1.0"))
    assert with_needs(target, ["distributed.cli.dask_worker", "json", "hypothesis"]) == (target, ())


def test_a_conflict_names_both() -> None:
    """A node's package that requires another version than the client has cannot be brought along."""
    with pytest.raises(LayerError, match=r"needs hypothesis .*, which requires .* has .* 1\.0") as raised:
        brought(target_with(("sortedcontainers", "1.0")), ["hypothesis"], scan_installed())
    assert raised.value.packages[1] == "sortedcontainers==1.0"
