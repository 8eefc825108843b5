"""A lock file can stand wherever an environment can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import dask_pkgsync as pkgsync
from dask_pkgsync.model.policy import CRITICAL

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lock_file_is_an_environment(tmp_path: Path) -> None:
    """Its path does, as text or path; what it pins is asked for, with its hashes."""
    lock = tmp_path / "requirements.txt"
    digest = "a" * 64
    lock.write_text("".join(f"{name}==1.0\n" for name in CRITICAL) + f"six==1.17.0 --hash=sha256:{digest}\n")
    for path in (lock, str(lock)):
        asked = pkgsync.PackageSync(path).target.environment.distributions
        assert asked["six"].hashes == (digest,)
        assert asked.keys() == {*CRITICAL, "six"}


def test_what_a_lock_file_does_not_pin_is_told_first(tmp_path: Path) -> None:
    """Without Dask in it no client could match: that is said before anything is sent or built."""
    lock = tmp_path / "requirements.txt"
    lock.write_text("six==1.17.0\ntornado==6.5\n")
    with pytest.raises(pkgsync.PolicyError, match="does not pin cloudpickle, dask, distributed, msgpack, which"):
        pkgsync.PackageSync(lock)
