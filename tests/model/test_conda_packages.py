"""Conda packages are compared by their builds, together with the distributions in them, as a policy says."""

from __future__ import annotations

import pytest
from hypothesis import given
from made_up_environments import conda_environments, critical, environments, policies

from dask_pkgsync.model.claims import conflict, merge
from dask_pkgsync.model.comparison import MISSING, OTHER_BUILD, compare
from dask_pkgsync.model.conda_comparison import shipped
from dask_pkgsync.model.environments.conda import CondaPackage
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import FromConda
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.plan import Hide, Install, Replace, Skip, make_plan
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.prefix_plan import make_prefix_plan
from dask_pkgsync.model.target import Target

HERE = Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-linux_x86_64")


def package(name: str, version: str = "1.0", build: str = "0", *distributions: str, **more: object) -> CondaPackage:
    """Return a conda package."""
    return CondaPackage(name, version, build, subdir="linux-64", distributions=distributions, **more)  # type: ignore[arg-type]


def conda_env(*packages: CondaPackage, pip: tuple[Distribution, ...] = ()) -> Environment:
    """Return a conda environment, in which each package's distributions have its version."""
    held = [
        Distribution(name, one.version, FromConda(one.name), "conda") for one in packages for name in one.distributions
    ]
    return Environment.of(HERE, [*critical, *held, *pip], (), packages)


MKL = package("numpy", "2.1.0", "py311_mkl", "numpy")
OPENBLAS = package("numpy", "2.1.0", "py311_openblas", "numpy")
PIP_NUMPY = Environment.of(HERE, [*critical, Distribution("numpy", "2.1.0", installer="pip", content="a" * 64)])


def test_another_build_is_a_difference_with_both_builds_in_the_table() -> None:
    """A numpy for MKL is not one for OpenBLAS."""
    (row,) = compare(conda_env(MKL), conda_env(OPENBLAS))
    assert (row.name, row.expected, row.found, row.reason) == (
        "numpy", "2.1.0 py311_mkl", "2.1.0 py311_openblas", OTHER_BUILD,
    )  # fmt: skip


def test_a_package_of_pip_is_not_one_of_conda() -> None:
    """The same version from an index has other libraries; the table says who has installed it. A library is missing."""
    expected = conda_env(MKL, package("libblas"))
    rows = {row.name: row.found for row in compare(expected, PIP_NUMPY)}
    assert rows == {"numpy": "2.1.0 (pip)", "libblas": MISSING}


def test_a_distribution_that_is_not_there_is_no_error() -> None:
    """A message may name distributions of a package that it does not list: it is compared all the same."""
    told = Environment.of(HERE, critical, (), [MKL])
    assert {row.name for row in compare(told, PIP_NUMPY)} == {"numpy"}


def test_equal_archives_are_equal_packages_wherever_they_came_from() -> None:
    """A mirror gives the same package; another archive of the same name does not."""
    one = package("libblas", sha256="a" * 64, channel="conda-forge", url="https://one.example/x.conda")
    mirrored = package("libblas", sha256="a" * 64, channel="mirror", url="file:///x.conda")
    other = package("libblas", sha256="b" * 64)
    assert compare(conda_env(one), conda_env(mirrored)).matches
    assert compare(conda_env(one), conda_env(other))
    assert compare(conda_env(one), conda_env(package("libblas", md5="c" * 32))).matches, "nothing to compare them by"


@pytest.mark.parametrize("name", ["msgpack-extra", "msgpack-python-extra"])
def test_a_package_and_its_distributions_have_one_name_for_policies(name: str) -> None:
    """To ignore either ignores both: neither is compared nor shipped."""
    expected = conda_env(package("msgpack-python-extra", "1.0", "0", "msgpack-extra"), package("libblas"))
    policy = Policy.of(ignore=[name])
    assert {row.name for row in compare(expected, conda_env(), policy)} == {"libblas"}
    assert [one.name for one in shipped(expected, policy)] == ["libblas"]


def test_only_ships_what_the_named_packages_need() -> None:
    """A library that numpy needs is part of it, and so is the interpreter; the rest stays here."""
    numpy = package("numpy", "2.1.0", "0", "numpy", depends=("libblas >=3.9", "python >=3.11", "__glibc >=2.17"))
    blas = package("libblas", depends=("conda-forge::libgcc[version='>=13']",))
    environment = conda_env(numpy, blas, package("libgcc"), package("python", "3.11.7"), package("pandas"))
    names = {one.name for one in shipped(environment, Policy.of(only=["numpy"]))}
    assert names == {"numpy", "libblas", "libgcc", "python"}


def test_tools_are_shipped_but_do_not_count_as_differences() -> None:
    """An interpreter may need its pip, but another pip is no reason to build a prefix."""
    expected = conda_env(package("pip", "25.0", "0", "pip"), package("libblas"))
    assert [one.name for one in shipped(expected, Policy())] == ["libblas", "pip"]
    assert make_prefix_plan(conda_env(package("libblas")), expected, Policy()).packages == ()


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({}, True),
        ({"builds": "ignore"}, False),
        ({"levels": {"numpy": "version"}}, False),
        ({"levels": {"num*": "ignore"}}, False),
        ({"ignore": ["numpy"]}, False),
        ({"levels": {"numpy": "exact"}}, True),
    ],
)
def test_levels_speak_of_conda_packages(options: dict[str, object], *, differs: bool) -> None:
    """An option that lets another build pass lets that of conda pass."""
    policy = Policy.of(**options)  # type: ignore[arg-type]
    assert bool(compare(conda_env(MKL), conda_env(OPENBLAS), policy)) is differs
    assert bool(make_prefix_plan(conda_env(OPENBLAS), conda_env(MKL), policy).packages) is differs


def test_a_compatible_version_is_enough_where_that_is_the_level() -> None:
    """``compatible`` means the same for both kinds of packages."""
    policy = Policy.of(levels={"libblas": "compatible"})
    assert compare(conda_env(package("libblas", "3.9.1")), conda_env(package("libblas", "3.9.4")), policy).matches
    assert compare(conda_env(package("libblas", "3.9.1")), conda_env(package("libblas", "4.0")), policy)


def test_a_plan_for_a_prefix_says_how_it_differs_from_the_base() -> None:
    """What the base lacks, what it has otherwise, and what pip has there instead."""
    plan = make_prefix_plan(PIP_NUMPY, conda_env(MKL, package("libblas", "3.9", "h0")), Policy())
    assert plan.steps == (
        Install("libblas", "3.9 h0"),
        Replace("numpy", "2.1.0 py311_mkl", "2.1.0 (pip)"),
    )
    assert [one.name for one in plan.packages] == ["libblas", "numpy"]


def test_a_base_that_has_the_packages_needs_no_prefix() -> None:
    """What pip has put on top is for a layer, as in front of any base."""
    on_top = Distribution("six", "1.17.0", installer="uv")
    base, target = conda_env(MKL, package("libextra")), conda_env(MKL, pip=(on_top,))
    assert make_prefix_plan(base, target, Policy()).packages == ()
    assert [step.name for step in make_plan(base, target).changes] == ["six"]


def test_strict_leaves_out_what_only_the_base_has() -> None:
    """Then the prefix holds the client's packages, and nothing else."""
    base = conda_env(MKL, package("libextra", "1.0", "h2"))
    plan = make_prefix_plan(base, conda_env(MKL), Policy.of(strict=True))
    assert plan.steps == (Hide("libextra", "1.0 h2"),)
    assert [one.name for one in plan.packages] == ["numpy"]


def test_builds_that_are_only_warned_of_stay() -> None:
    """With ``builds="warn"`` the node keeps its own build, and the report says so."""
    plan = make_prefix_plan(conda_env(OPENBLAS), conda_env(MKL), Policy.of(builds="warn"))
    assert plan.packages == ()
    (step,) = plan.steps
    assert isinstance(step, Skip)
    assert "here 2.1.0 py311_openblas, on the client 2.1.0 py311_mkl" in step.reason


def test_a_client_of_pip_gets_its_own_builds_on_nodes_of_conda() -> None:
    """Compiled code of conda is linked against other libraries; pure Python is the same code."""
    compiled = PIP_NUMPY
    pure = Environment.of(HERE, [*critical, Distribution("numpy", "2.1.0", content="a" * 64, is_pure=True)])
    base = conda_env(MKL)
    assert [step.name for step in make_plan(base, compiled).changes] == ["numpy"]
    assert make_plan(base, pure).empty


def test_two_clients_of_conda_share_a_cluster_if_no_package_differs() -> None:
    """The cluster then has the packages of both."""
    one, other = (
        Target(conda_env(*packages), Policy()) for packages in ((MKL, package("libone")), (MKL, package("libother")))
    )
    assert not conflict(one, other)
    assert set(merge(one, other).environment.conda) == {"numpy", "libone", "libother"}
    differing = Target(conda_env(OPENBLAS), Policy())
    (row,) = conflict(one, differing)
    assert (row.name, row.expected) == ("numpy", "2.1.0 py311_mkl")
    assert conflict(one, Target(PIP_NUMPY, Policy())), "a client of pip has another numpy"


@given(conda_environments(), policies)
def test_an_environment_needs_nothing_of_itself(environment: Environment, policy: Policy) -> None:
    """A node with the very environment needs neither prefix nor layer, under any policy."""
    assert make_prefix_plan(environment, environment, policy).packages == ()
    assert compare(environment, environment, policy).matches


@given(conda_environments(), environments(), policies)
def test_a_prefix_is_enough(target: Environment, base: Environment, policy: Policy) -> None:
    """On a prefix with what is shipped, nothing of conda is missing."""
    plan = make_prefix_plan(base, target, policy)
    if plan.packages:
        prefix = Environment.of(target.interpreter, target.distributions.values(), (), plan.packages)
        assert not make_prefix_plan(prefix, target, policy).packages


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", "1 --option"),
        ("build", "../x"),
        ("subdir", "Linux/64"),
        ("sha256", "xyz"),
        ("md5", "0" * 31),
        ("noarch", "yes"),
        ("url", "https://user:s3cret@conda.example/x.conda"),
        ("channel", "https://conda.example/t/tk-s3cret/x"),
        ("python-site-packages", "../outside"),
        ("depends", ["a\nb"]),
        ("placeholder", -1),
        ("distributions", ["Not Canonical"]),
    ],
)
def test_a_malformed_package_is_refused_with_its_place(key: str, value: object) -> None:
    """Nothing that could be an option, a path or a credential gets past the boundary, nor into the error."""
    from dask_pkgsync.model.environments.environment import environment_from_wire, environment_to_wire

    data = environment_to_wire(conda_env(MKL))
    data["conda"]["numpy"][key] = value
    with pytest.raises(MessageError) as caught:
        environment_from_wire(data)
    assert key in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "-x", "Numpy", "", "a b", 1])
def test_a_malformed_name_is_refused(name: object) -> None:
    """Names of packages are parts of paths."""
    from dask_pkgsync.model.environments.environment import environment_from_wire, environment_to_wire

    data = environment_to_wire(conda_env(MKL))
    data["conda"] = {name: data["conda"]["numpy"]}
    with pytest.raises(MessageError):
        environment_from_wire(data)
