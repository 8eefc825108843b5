"""What ``extra`` adds to a conda environment is solved once, and changes nothing that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conda_channel import make_prefix

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.conda.solving import solve_extra
from dask_pkgsync.conda.tool import own_rattler
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.conda_meta import prefix_on

if TYPE_CHECKING:
    from pathlib import Path

    from conda_channel import Channel

    from dask_pkgsync.model.environments.conda import CondaPackage


def test_extra_packages_are_added_and_all_others_stay(conda_channel: Channel, tmp_path: Path) -> None:
    """A package whose needs are met is found, with its digest; one that needs other versions is refused."""
    prefix = make_prefix(conda_channel.url, tmp_path / "prefix", ("libfoo 2.1",))
    found = prefix_on([str(prefix / "lib" / "python3.0" / "site-packages")])
    assert found is not None
    packages = [record.package for record in found.records]

    def solve(*specs: str) -> dict[str, CondaPackage]:
        cache, tool = open_cache(str(tmp_path / "cache")), own_rattler()
        assert tool is not None
        return {one.name: one for one in solve_extra(specs, packages, cache, lambda: tool, timeout=100)}

    added = solve(f"{conda_channel.url}::twins", "greeter=1.0")
    assert "libfoo" not in added, "it is there already, though not in its newest version"
    assert {"twins", "greeter", "python"} <= set(added)
    assert (added["twins"].noarch, added["greeter"].version) == ("python", "1.0")
    assert all(one.sha256 and one.url.startswith(conda_channel.url) for one in added.values())
    with pytest.raises(LayerError) as caught:
        solve("libfoo=2.2")
    assert caught.value.step == "resolve"
    assert "libfoo" in caught.value.last_words


@pytest.mark.parametrize(
    ("text", "name", "is_conda"),
    [
        ("conda-forge::cuda-nvcc=12.4", "cuda-nvcc", True),
        ("https://conda.example/private::zlib >=1.2,<2", "zlib", True),
        ("zlib=1.3", "zlib", True),
        ("zlib=1.3=h1_0", "zlib", True),
        ("zlib==1.3", "zlib", False),
        ("s3fs>=2024.6", "s3fs", False),
        ("numpy[extra]~=2.0", "numpy", False),
    ],
)
def test_a_match_spec_is_told_from_a_requirement(text: str, name: str, *, is_conda: bool) -> None:
    """A channel, or a single ``=``, makes the difference; both give the name that the policy then ships."""
    policy = Policy.of(extra=[text])
    assert policy.extra_names == {name}
    assert bool(policy.extra_conda) is is_conda
    assert bool(policy.extra_requirements) is not is_conda


@pytest.mark.parametrize("text", ["https://me:s3cret@conda.example/x::zlib", "--opt::zlib", "a b::zlib", "x::y\n"])
def test_a_match_spec_holds_no_credentials_and_no_options(text: str) -> None:
    """What could be a password or an option is refused."""
    with pytest.raises(PolicyError):
        Policy.of(extra=[text])


def test_a_token_in_a_channel_is_refused_and_not_repeated() -> None:
    """It would be sent to every node, and shown on pages."""
    with pytest.raises(PolicyError) as caught:
        Policy.of(extra=["https://conda.example/t/tk-s3cret/private::zlib=1.3"])
    assert "s3cret" not in str(caught.value)
