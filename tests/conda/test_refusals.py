"""What a node cannot have is refused before anything is built, with every package and what to do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from conda_channel import OF_MACHINE, SUBDIR, Channel
from conda_prefixes import build

from dask_pkgsync.cache.directory import Cache, open_cache
from dask_pkgsync.conda.installer import Answer
from dask_pkgsync.conda.refusals import refuse_long_path, refuse_missing, refuse_unfit
from dask_pkgsync.model.environments.conda import CondaPackage
from dask_pkgsync.model.reports.failure import LayerError

NUMPY = CondaPackage("numpy", "2.1.0", "py312_0", subdir="linux-64", depends=("__glibc >=2.28,<3.0.a0", "python"))
TORCH = CondaPackage("pytorch", "2.5.1", "cuda_0", subdir="linux-64", depends=("__cuda >=12.4", "__glibc >=2.28"))
NODE = Answer("linux-64", {"__glibc": ["2.17", "0"], "__linux": ["5.10", "0"]}, installed=True)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(str(tmp_path / "cache"))


def test_virtual_packages_that_the_node_lacks_are_told_for_each_package() -> None:
    """Which package, what it needs, what the node has."""
    unmet = (("numpy", "__glibc >=2.28,<3.0.a0"), ("pytorch", "__cuda >=12.4"), ("pytorch", "__glibc >=2.28"))
    with pytest.raises(LayerError) as caught:
        refuse_unfit([NUMPY, TORCH], replace(NODE, unmet=unmet))
    assert caught.value.problem == (
        "numpy=2.1.0=py312_0 needs __glibc >=2.28,<3.0.a0, and the node has __glibc 2.17; "
        "pytorch=2.5.1=cuda_0 needs __cuda >=12.4, __glibc >=2.28, and the node has no __cuda, __glibc 2.17"
    )
    assert caught.value.packages == ("numpy=2.1.0=py312_0", "pytorch=2.5.1=cuda_0")
    assert "CONDA_OVERRIDE_CUDA" in caught.value.advice


def test_platform_and_room_are_told_together_with_the_rest() -> None:
    """Nobody has to try three times to find three reasons."""
    other = replace(TORCH, subdir="osx-arm64", depends=())
    answer = replace(NODE, unmet=(("numpy", "__glibc >=2.28"),), needed=5_000_000_000, free=1_000_000_000)
    with pytest.raises(LayerError) as caught:
        refuse_unfit([NUMPY, other], answer)
    assert "the node is linux-64, and these packages are for another platform: pytorch=2.5.1=cuda_0 (osx-arm64)" in (
        caught.value.problem
    )
    assert "numpy=2.1.0=py312_0 needs __glibc" in caught.value.problem
    assert "they need 5,000 MB, and 1,000 MB are free" in caught.value.problem
    assert refuse_unfit([NUMPY, replace(other, subdir="noarch")], NODE) is None


def test_a_path_that_is_too_long_names_the_packages_that_have_no_room_for_it() -> None:
    """Text can be of any length; programs and libraries have room for their placeholder."""
    short, none = replace(NUMPY, placeholder=80), replace(TORCH, placeholder=0)
    with pytest.raises(LayerError, match="has 90 bytes") as caught:
        refuse_long_path([short, none], Path("/" + "x" * 89))
    assert caught.value.packages == ("numpy=2.1.0=py312_0",)
    assert refuse_long_path([short, none], Path("/" + "x" * 79)) is None


def test_missing_packages_are_told_with_the_reasons_of_all_sources() -> None:
    """Packages that are missing for one reason are told together."""
    missing = {NUMPY: "404", replace(TORCH, url="https://channel/linux-64/pytorch.conda"): "404"}
    because = LayerError("pack", "it has neither", advice="Install them.", last_words="bye")
    with pytest.raises(LayerError) as caught:
        refuse_missing(missing, because, asked_client=True, asked_channel=True)
    assert caught.value.problem == (
        "no source has these 2 packages: numpy=2.1.0=py312_0 (no URL is recorded), "
        "pytorch=2.5.1=cuda_0 (https://channel/linux-64/pytorch.conda): 404; and the client cannot give them: "
        "it has neither"
    )
    assert caught.value.last_words == "bye"
    assert refuse_missing({}, None, asked_client=False, asked_channel=True) is None


@pytest.mark.skipif(not OF_MACHINE[0].startswith("__glibc"), reason="this machine has no glibc")
def test_a_real_node_is_asked_for_its_virtual_packages(
    conda_channel: Channel, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an operator says by CONDA_OVERRIDE_… counts; nothing is fetched for a node that is refused."""
    monkeypatch.setenv("CONDA_OVERRIDE_GLIBC", "2.12")
    archive = conda_channel.archive("libfoo")
    libfoo = CondaPackage(
        *("libfoo", "2.1", "h1_0"), subdir=SUBDIR, url=archive.as_uri(), depends=(*OF_MACHINE, "__cuda"),
        constrains=("__unix >=7", "__nothing"),
    )  # fmt: skip
    with pytest.raises(LayerError) as caught:
        build([libfoo, replace(libfoo, name="other", subdir="win-64", depends=())], cache)
    assert "libfoo=2.1=h1_0 needs __glibc >=2.17, __cuda, __unix >=7, and the node has __glibc 2.12, no __cuda" in (
        caught.value.problem
    )
    assert f"the node is {SUBDIR}, and these packages are for another platform: other=2.1=h1_0 (win-64)" in (
        caught.value.problem
    )
    assert os.listdir(cache.building) == []  # noqa: PTH208
    assert not list(cache.root.glob("conda/*/archives/*"))


def test_a_real_path_that_is_too_long_is_refused_without_the_tool(tmp_path: Path) -> None:
    """Nothing has to be fetched to know it."""
    deep = tmp_path.joinpath(*["d" * 60] * 3)
    package = CondaPackage("libfoo", "2.1", "h1_0", subdir=SUBDIR, placeholder=255)
    with pytest.raises(LayerError, match=r"Set pkgsync\.cache-directory"):
        build([package], open_cache(str(deep)), tool=lambda: pytest.fail("the tool was asked for"))
