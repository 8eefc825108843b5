"""Environments as hypothesis makes them up."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from dask_pkgsync.model.environments.conda import CondaPackage
from dask_pkgsync.model.environments.distribution import Distribution, Fault
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import (
    FromArchive,
    FromConda,
    FromDirectory,
    FromIndex,
    FromModules,
    FromVcs,
    Unrecorded,
)
from dask_pkgsync.model.policy import CRITICAL, Level, Policy
from dask_pkgsync.model.wire.names import canonical

texts = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=20).filter(str.isprintable)
names = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9]|-[a-z0-9]){0,8}", fullmatch=True),
    st.sampled_from(["numpy", "six", "zope-interface", "pip", "pywin32"]),
)
versions = st.one_of(
    st.sampled_from(["1.0", "1.0.0", "2!1.0", "1.0rc1", "1.0.post2", "1.0.dev3", "1.0+cu118", "2024.1.31"]),
    st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}", fullmatch=True),
)
origins = st.one_of(
    st.just(FromIndex()),
    st.sampled_from([Unrecorded(), Unrecorded(("six.py", "six"))]),
    st.builds(FromArchive, texts, texts),
    st.builds(FromVcs, texts, texts, texts, texts),
    st.builds(FromDirectory, texts, st.booleans(), texts),
    st.builds(FromModules, texts, texts),
)
from_index = st.just(FromIndex())
interpreters = st.builds(
    Interpreter,
    st.sampled_from(["cpython", "pypy"]),
    st.sampled_from(["3.10.1", "3.11.7", "3.12.0"]),
    st.sampled_from(["linux-x86_64", "macosx-11.0-arm64"]),
    st.just("cp311-cp311-manylinux_2_36_x86_64"),
)
one_interpreter = st.just(Interpreter("cpython", "3.11.7", "linux-x86_64", "cp311-cp311-linux_x86_64"))
critical = [Distribution(name, "1.0") for name in CRITICAL]


def environments(
    interpreter: st.SearchStrategy[Interpreter] = interpreters,
    origin: st.SearchStrategy[object] = origins,
    kinds: tuple[str, ...] = ("stray",),
) -> st.SearchStrategy[Environment]:
    """Return environments that have the critical packages and some others."""
    distributions = st.lists(st.builds(Distribution, names, versions, origin, texts), max_size=8)
    faults = st.lists(st.builds(Fault, st.sampled_from(kinds), texts, texts, names), max_size=2)
    return st.builds(lambda i, d, f: Environment.of(i, [*critical, *d], f), interpreter, distributions, faults)


conda_names = st.one_of(names, st.from_regex(r"_?[a-z][a-z0-9_.]{0,8}", fullmatch=True))
hexadecimal = st.text("0123456789abcdef", min_size=64, max_size=64)
conda_packages = st.builds(
    CondaPackage,
    name=conda_names,
    version=st.one_of(versions, st.sampled_from(["2024a", "9e", "1.1.1w"])),
    build=st.sampled_from(["0", "py311h0_0", "mkl_1"]),
    build_number=st.integers(0, 9),
    subdir=st.sampled_from(["linux-64", "noarch"]),
    channel=st.sampled_from(["", "conda-forge", "https://conda.example/private"]),
    sha256=st.just("") | hexadecimal,
    noarch=st.sampled_from(["", "python", "generic"]),
    depends=st.lists(conda_names, max_size=3).map(tuple),
    installed_size=st.integers(0, 2**40),
    placeholder=st.integers(0, 255),
    modified=st.integers(0, 2),
)


def conda_environments() -> st.SearchStrategy[Environment]:
    """Return environments with conda packages, some of which have a distribution of their name."""

    def made(base: Environment, packages: list[CondaPackage]) -> Environment:
        held = {}
        for package in packages:
            name = canonical(package.name).strip("-") or "x"
            if name not in base.distributions and package.version[0].isdigit() and name not in held:
                held[name] = Distribution(name, "1.0", FromConda(package.name), "conda")
        by_package = {one.origin.package: one.name for one in held.values() if isinstance(one.origin, FromConda)}
        conda = [
            replace(one, distributions=(by_package[one.name],) if one.name in by_package else ())
            for one in {one.name: one for one in packages}.values()
        ]
        return base.with_distributions([*base.distributions.values(), *held.values()]).with_conda(conda)

    return st.builds(made, environments(one_interpreter, from_index), st.lists(conda_packages, max_size=5))


PATTERNS = ["a*", "*-b", "?"]
policies = st.builds(
    lambda ignore, only, strict, levels: Policy.of(
        ignore=ignore,
        only=None if only is None else only - ignore,
        strict=strict,
        levels={
            name: level
            for name, level in levels.items()
            if name not in ignore and (only is None or name in only or name in PATTERNS)
        },
    ),
    st.frozensets(names, max_size=3).map(lambda found: found - set(CRITICAL)),
    st.none() | st.frozensets(names, max_size=3),
    st.booleans(),
    st.dictionaries(
        names.filter(lambda name: name not in CRITICAL) | st.sampled_from(PATTERNS),
        st.sampled_from([level.value for level in Level]),
        max_size=3,
    ),
)

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
