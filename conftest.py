"""What all tests share: virtual environments and a cache, made once per test run."""

from __future__ import annotations

import random
import shutil
import subprocess
import types
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from clusters import Cluster, Venvs
    from conda_channel import Channel

    from dask_pkgsync import Environment

# How long an example takes says something about the machine, and nothing about us.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("any machine"), max_examples=10)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer to run the tests in random order: none of them may depend on what ran before it."""
    parser.addoption(
        "--shuffle", type=int, metavar="SEED", help="run the tests in random order, the same for the same number"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle them, where that was asked for."""
    if (seed := config.getoption("--shuffle")) is not None:
        random.Random(seed).shuffle(items)


@pytest.fixture(autouse=True)
def _functions_travel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let functions of a test module run on workers, which do not have it: those of ``__main__`` travel by value."""
    import clusters

    for module in (request.module, clusters):
        for value in list(vars(module).values()):
            if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
                monkeypatch.setattr(value, "__module__", "__main__")


@pytest.fixture(autouse=True)
def _no_modules() -> Iterator[None]:
    """Let the tests' own modules stay at home, unless a test is about modules."""
    import dask

    with dask.config.set({"pkgsync.modules": False}):
        yield


@pytest.fixture(scope="session")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venvs]:
    """Make virtual environments on demand."""
    from clusters import Venvs

    root = tmp_path_factory.mktemp("venvs")
    yield Venvs(root)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache directory that is warm once the first test has used it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def conda_channel(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Channel:
    """Return the usual conda channel, which the first process of a test run makes for all of them."""
    from conda_channel import shared_channel

    here = tmp_path_factory.getbasetemp()
    return shared_channel(here if worker_id == "master" else here.parent)


@pytest.fixture(scope="session")
def packed_interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive of the interpreter below this environment, as a client sends it."""
    from dask_pkgsync.cache.directory import open_cache
    from dask_pkgsync.interpreters.packing import InterpreterPacker
    from dask_pkgsync.model.blobs import request_for_interpreter
    from dask_pkgsync.scanning.installed import this_interpreter

    cache = open_cache(str(tmp_path_factory.mktemp("packed")))
    return InterpreterPacker(this_interpreter(), cache).pack(request_for_interpreter(this_interpreter()))[1]


@pytest.fixture(scope="session")
def base_environment(venvs: Venvs) -> Environment:
    """Return what the nodes have."""
    return venvs.base().environment()


@pytest.fixture(scope="session")
def target(base_environment: Environment) -> Environment:
    """Return the tests' usual target, of which nothing is imported by Dask itself."""
    from clusters import LIGHT, environment_with

    return environment_with(base_environment, LIGHT)


@pytest.fixture
def run_cluster(tmp_path: Path, venvs: Venvs, shared_cache: Path) -> Callable[..., AbstractContextManager[Cluster]]:
    """Return a function that runs a cluster in the usual environment; for arguments see `clusters.running`."""
    from clusters import running

    def run(*worker_argv: str, **rest: Any) -> AbstractContextManager[Cluster]:
        root = tmp_path / f"cluster{len(list(tmp_path.iterdir()))}"
        root.mkdir()
        venv, cache = rest.pop("venv", None) or venvs.base(), rest.pop("cache", shared_cache)
        return running(root, venv, cache, *worker_argv, **rest)

    return run


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """Make a certificate that signs itself."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*argv, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return {"key": str(key), "cert": str(cert)}
