"""An environment is written in the formats of other tools, and what they cannot hold is named."""

from __future__ import annotations

from hypothesis import given
from made_up_environments import conda_environments, environments, from_index, one_interpreter

from dask_pkgsync.model.environments.conda import CondaPackage
from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import (
    FromArchive,
    FromConda,
    FromDirectory,
    FromModules,
    FromVcs,
    Unrecorded,
)
from dask_pkgsync.model.lockfiles.conda_locks import packages_of_explicit
from dask_pkgsync.model.lockfiles.lockfile import environment_from_lock
from dask_pkgsync.model.lockfiles.writing import conda_explicit_of, environment_yml_of, requirements_of

HERE = Interpreter("cpython", "3.11.7", "linux-x86_64", "")
A, B = "a" * 64, "b" * 64
URL = "https://conda.example/forge"
ENVIRONMENT = Environment.of(
    HERE,
    [
        Distribution("six", "1.17.0", hashes=(A, B)),
        Distribution("forked", "0.1", FromVcs("https://example.org/forked.git", "c0ffee", subdirectory="python")),
        Distribution("archive", "1.0", FromArchive("https://example.org/archive-1.0.tar.gz", f"sha256={A}")),
        Distribution("mine", "0.2", FromDirectory("file:///home/me/mine", editable=True, digest="source=1")),
        Distribution("module-helpers", "0", FromModules("file:///home/me", "source=1")),
        Distribution("old", "1", Unrecorded()),
        Distribution("edited", "1.0", content=B, modified=2),
        Distribution("numpy", "2.1.0", FromConda("numpy"), "conda"),
    ],
    conda=[
        CondaPackage("numpy", "2.1.0", "py311_0", 0, "linux-64", URL, f"{URL}/linux-64/numpy-2.1.0-py311_0.conda", A,
                     depends=("python >=3.11", "_libblas"), distributions=("numpy",)),
        CondaPackage("python", "3.11.7", "h1_0_cpython", 0, "linux-64", URL, f"{URL}/linux-64/python-3.11.7-h1_0.conda",
                     "", "c" * 32, depends=("_libblas",)),
        CondaPackage("_libblas", "3.9", "0", 0, "linux-64", URL, "file:///home/me/_libblas-3.9-0.conda", B),
    ],
)  # fmt: skip


def test_requirements_hold_what_others_can_install() -> None:
    """Versions with hashes, commits and archives; what is on this machine only is named."""
    found = requirements_of(ENVIRONMENT)
    assert found.lines == [
        f"archive @ https://example.org/archive-1.0.tar.gz#sha256={A}",
        "edited==1.0",
        "forked @ git+https://example.org/forked.git@c0ffee#subdirectory=python",
        "numpy==2.1.0",
        f"six==1.17.0 --hash=sha256:{A} --hash=sha256:{B}",
    ]
    assert [line.partition(" ")[0] for line in found.left_out] == ["edited", "mine", "module-helpers", "old"]
    assert found.text.endswith("\n")


def test_an_environment_yml_holds_both_kinds_of_packages() -> None:
    """Conda packages by version and build with their channels, the rest for pip."""
    assert environment_yml_of(ENVIRONMENT).lines == [
        "channels:",
        f"  - '{URL}'",
        "dependencies:",
        "  - '_libblas=3.9=0'",
        "  - numpy=2.1.0=py311_0",
        "  - python=3.11.7=h1_0_cpython",
        "  - pip",
        "  - pip:",
        f"      - 'archive @ https://example.org/archive-1.0.tar.gz#sha256={A}'",
        "      - edited==1.0",
        "      - 'forked @ git+https://example.org/forked.git@c0ffee#subdirectory=python'",
        f"      - 'six==1.17.0 --hash=sha256:{A} --hash=sha256:{B}'",
    ]
    lines = environment_yml_of(Environment.of(HERE, [Distribution("six", "1.0")])).lines
    assert lines[1:4] == ["  - conda-forge", "dependencies:", "  - python=3.11.7"]


def test_an_explicit_list_is_in_the_order_of_dependencies() -> None:
    """Each package follows what it depends on; what is no package of a channel is named."""
    found = conda_explicit_of(ENVIRONMENT)
    assert found.lines == [
        "# platform: linux-64",
        "@EXPLICIT",
        f"{URL}/linux-64/python-3.11.7-h1_0.conda#{'c' * 32}",
        f"{URL}/linux-64/numpy-2.1.0-py311_0.conda#{A}",
    ]
    assert "_libblas 3.9 0: it came from a file of this machine" in found.left_out
    assert "edited==1.0: it is no conda package" in found.left_out


@given(environments(one_interpreter, from_index))
def test_requirements_are_read_back(environment: Environment) -> None:
    """What is written as requirements is read as the same versions."""
    found = environment_from_lock("requirements.txt", requirements_of(environment).text, HERE)
    assert {name: one.version for name, one in found.distributions.items()} == {
        name: one.version for name, one in environment.distributions.items()
    }


@given(conda_environments())
def test_every_conda_package_is_written_or_named(environment: Environment) -> None:
    """An explicit list has each package once, and is read back, whatever circles there are."""
    urls = {
        name: f"{URL}/linux-64/{one.name}-{one.version}-{one.build}.conda" for name, one in environment.conda.items()
    }
    found = conda_explicit_of(
        environment.with_conda([_with_url(one, urls[name]) for name, one in environment.conda.items()])
    )
    assert sorted(line.partition("#")[0] for line in found.lines[2:]) == sorted(urls.values())
    assert {one.name for one in packages_of_explicit("x", found.text)} == environment.conda.keys()


def _with_url(package: CondaPackage, url: str) -> CondaPackage:
    return CondaPackage(package.name, package.version, package.build, url=url, depends=package.depends)
