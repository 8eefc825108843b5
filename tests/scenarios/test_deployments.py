"""Every page of docs/deployments: its own blocks are run, or validated where they need what a test cannot have."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import pytest
import yaml
from click.testing import CliRunner
from clusters import (
    BASE_PACKAGES,
    CRITICAL_PINS,
    LIGHT,
    SOURCE,
    Cluster,
    Venv,
    base_python,
    environment_with,
    imported_version,
    on_workers,
    pid_here,
    running,
    uv,
    versions_here,
)
from distributed.security import Security
from distributed.versions import VersionMismatchWarning
from documented_commands import adapted, blocks, commands, documents, exported, pages, run_script, with_work
from uv import find_uv_bin

import dask_pkgsync as pkgsync
from dask_pkgsync import Policy
from dask_pkgsync.cli import group as cli
from dask_pkgsync.layers.layer import Base, layer_digest
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.options.configuration import check_configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from clusters import Venvs

    from dask_pkgsync import Environment

    Run = Callable[..., AbstractContextManager[Cluster]]

NODES = "/opt/nodes/bin/python"
"""What the pages call the interpreter of the nodes."""

CLIENT = (*CRITICAL_PINS, "six==1.17.0", str(SOURCE))
SIX = {
    "DASK_PKGSYNC__ONLY": '["six"]',
    "PATH": os.pathsep.join([str(Path(find_uv_bin()).parent), os.environ["PATH"]]),  # so that no node fetches one
}
"""What the client's scripts bring to nodes that have another version."""

LOOK = """
def version(name):
    import importlib.metadata
    return importlib.metadata.version(name)

client.wait_for_workers(2, timeout=60)
workers = list(client.scheduler_info(n_workers=-1)["workers"])
seen = [client.submit(version, "six", workers=[worker], pure=False).result(60) for worker in workers]
import json
print(json.dumps({"six": sorted(seen), "outcomes": sorted({node.outcome for node in report.nodes})}))
"""


# -- index -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages())
def test_pages_say_nothing_that_is_refused(page: str) -> None:
    """Every section and variable for dask-pkgsync on a page is one that it knows, with a value that it takes."""
    sections = [one["pkgsync"] for one in walk(documents(page)) if "pkgsync" in one]
    variables: dict[str, str] = {}
    for shell in blocks(page, "sh"):
        variables |= exported(shell)
    for one in walk(documents(page)):
        if str(one.get("name", "")).startswith("DASK_"):
            variables[one["name"]] = one["value"]
    sections.append(dask.config.collect_env(variables).get("pkgsync", {}))
    for section in sections:
        with dask.config.set({"pkgsync": section}):
            check_configuration()


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Return all mappings in a document, those inside of texts included."""
    if isinstance(value, str) and "\n" in value:
        value = yaml.safe_load(value)
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for one in value if isinstance(value, list) else []:
        yield from walk(one)


def test_files_and_variables_of_the_index_say_the_same() -> None:
    """The block of YAML and the environment variables configure one and the same."""
    (configured,) = documents("index")
    assert dask.config.collect_env(exported(blocks("index", "sh")[0])) == configured


@pytest.mark.cluster
@pytest.mark.slow
def test_a_preload_on_the_command_line_takes_the_place_of_configured_ones(venvs: Venvs, tmp_path: Path) -> None:
    """What the index warns of is what Dask does; that the configured one runs alone, other tests show."""
    preload, mark = tmp_path / "of_the_command_line.py", tmp_path / "mark"
    preload.write_text(f"open({str(mark)!r}, 'w').close()\n")
    env, argv = exported(blocks("index", "sh")[0]), ("--preload", str(preload))
    with running(
        tmp_path, venvs.make(*BASE_PACKAGES, str(SOURCE)), tmp_path, workers=0, env=env, options=argv
    ) as cluster:
        with cluster.client() as client:
            assert mark.exists()
            assert "pkgsync-preload" not in client.run_on_scheduler(plugins_there)
        assert "dask_pkgsync" not in cluster.log("scheduler")


def plugins_there(dask_scheduler: Any) -> list[str]:
    """Return the names of the scheduler's plugins."""
    return list(dask_scheduler.plugins)


# -- LocalCluster, SpecCluster, adaptive -------------------------------------------------------------------------------


@pytest.mark.cluster
def test_a_local_cluster_needs_nothing(venvs: Venvs, tmp_path: Path) -> None:
    """`sync` on the page's LocalCluster leaves everything alone."""
    script = with_work(blocks("local", "python")[0], LOOK.replace("(2,", "(1,"))
    found = run_script(venvs.make(*CLIENT), script, tmp_path)
    assert found == {"six": ["1.17.0"], "outcomes": ["left alone"]}


@pytest.mark.cluster
@pytest.mark.slow
def test_a_spec_cluster_adapts_in_the_target(venvs: Venvs, shared_cache: Path, tmp_path: Path) -> None:
    """Workers of another environment get the client's, and so do those that Dask adds."""
    script = with_work(adapted(blocks("local", "python")[1], {NODES: venvs.base().python}), LOOK)
    found = run_script(venvs.make(*CLIENT), script, tmp_path, DASK_PKGSYNC__CACHE_DIRECTORY=str(shared_cache), **SIX)
    assert found == {"six": ["1.17.0", "1.17.0"], "outcomes": ["left alone", "live"]}


# -- SSHCluster --------------------------------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.slow
def test_an_ssh_cluster_syncs(venvs: Venvs, tmp_path: Path) -> None:
    """Hosts behind a real SSH server get the environment, and the node's options from the client's configuration."""
    client = venvs.make_or_skip(*CLIENT, "asyncssh")
    layers = tmp_path / "layers"
    (tmp_path / "pkgsync.yaml").write_text(
        adapted(blocks("ssh", "yaml")[0], {"/var/tmp/me/dask-pkgsync": layers}) + '  only: ["six"]\n'
    )
    hosts = Cluster(tmp_path, venvs.base(), None)
    try:
        hosts.spawn("sshd", [client.python, str(SOURCE / "tests" / "ssh_server.py"), str(tmp_path)], **SIX)
        hosts.wait_for((tmp_path / "port").exists, "the SSH server")
        reached = {"username": "me", "client_keys": [str(tmp_path / "id")], "known_hosts": None}
        changes = {
            "host-a": "localhost",
            "host-b": "localhost",
            '{"username": "me"}': {**reached, "port": int((tmp_path / "port").read_text())},
            NODES: venvs.base().python,
        }
        script = with_work(adapted(blocks("ssh", "python")[0], changes), LOOK)
        found = run_script(client, script, tmp_path, DASK_CONFIG=str(tmp_path / "pkgsync.yaml"))
    finally:
        hosts.stop()
    assert found == {"six": ["1.17.0", "1.17.0"], "outcomes": ["live"]}
    assert len(list((layers / "layers").iterdir())) == 1


# -- dask-jobqueue -----------------------------------------------------------------------------------------------------

SLURM = {
    "sbatch": """
        import subprocess, sys
        script, log = open(sys.argv[-1]).read(), open("job.log", "ab")
        job = subprocess.Popen(["bash", "-c", script], stdout=log, stderr=log, start_new_session=True)
        print("Submitted batch job", job.pid)
    """,
    "scancel": """
        import os, signal, sys
        for job in sys.argv[1:]:
            os.killpg(int(job), signal.SIGTERM)
    """,
}


@pytest.mark.cluster
@pytest.mark.slow
def test_jobs_take_the_environment(venvs: Venvs, tmp_path: Path) -> None:
    """Job scripts that dask-jobqueue writes are run by a small Slurm; the prologue says where layers go."""
    client = venvs.make_or_skip(*CLIENT, "dask-jobqueue")
    for name, text in SLURM.items():
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
        program.chmod(0o755)
    (tmp_path / "jobqueue.yaml").write_text(adapted(blocks("jobqueue", "yaml")[0], {NODES: venvs.base().python}))
    script = with_work(blocks("jobqueue", "python")[0], LOOK)
    env = {
        **SIX,
        "DASK_CONFIG": str(tmp_path / "jobqueue.yaml"),
        "PATH": f"{tmp_path}:{SIX['PATH']}",
        "TMPDIR": str(tmp_path),
        "USER": "me",
    }
    found = run_script(client, script, tmp_path, **env)
    assert found == {"six": ["1.17.0", "1.17.0"], "outcomes": ["left alone", "live"]}
    assert len(list((tmp_path / "me-dask-pkgsync" / "layers").iterdir())) == 1


# -- dask-kubernetes and the Helm chart --------------------------------------------------------------------------------

VALIDATE = """
import importlib.resources, json, sys
import jsonschema, yaml

crd = "deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"
text = importlib.resources.files("dask_kubernetes.operator").joinpath(*crd.split("/")).read_text()
(version,) = yaml.safe_load(text)["spec"]["versions"]
schema = version["schema"]["openAPIV3Schema"]
schema["properties"] |= {name: {} for name in ("apiVersion", "kind", "metadata")}  # of every resource

def close(part):  # as kubectl's validation does: keys that nobody knows are faults
    if isinstance(part, dict):
        if isinstance(part.get("properties"), dict) and not part.get("x-kubernetes-preserve-unknown-fields"):
            part.setdefault("additionalProperties", False)
        part = list(part.values())
    for one in part if isinstance(part, list) else []:
        close(one)

def without_nulls(part):  # which the API server drops
    if isinstance(part, dict):
        return {key: without_nulls(value) for key, value in part.items() if value is not None}
    return [without_nulls(one) for one in part] if isinstance(part, list) else part

close(schema)
resource = without_nulls(json.loads(sys.argv[1]))
faults = [fault.message for fault in jsonschema.Draft202012Validator(schema).iter_errors(resource)]
print(json.dumps(faults))
"""


@pytest.mark.slow
def test_dask_kubernetes_takes_the_resources(venvs: Venvs) -> None:
    """The operator's own schema takes the page's DaskCluster, and what its Python makes, but not a fault in it."""
    venv = venvs.make_or_skip(*CRITICAL_PINS, "dask-kubernetes", "jsonschema")
    (script,) = blocks("kubernetes", "python")
    made = json.loads(venv.run(f"{script}\nimport json; print(json.dumps(spec))").stdout)
    (written,) = (one for one in documents("kubernetes") if one["kind"] == "DaskCluster")
    for resource in (made, written):
        assert json.loads(venv.run(VALIDATE, json.dumps(resource)).stdout) == []
    made["spec"]["worker"]["spec"]["containers"][0]["evn"] = []
    assert "evn" in venv.run(VALIDATE, json.dumps(made)).stdout
    assert made["spec"]["scheduler"]["spec"]["containers"][0]["args"][:2] == ["dask", "scheduler"]


def run_container(cluster: Cluster, name: str, container: dict[str, Any], mounts: dict[str, Path], venv: Venv) -> None:
    """Run a container's command as a process, with its variables, and its mounted directories in other places."""

    def placed(text: str) -> str:
        for mount in container.get("volumeMounts", ()):
            text = text.replace(mount["mountPath"], str(mounts[mount["name"]]))
        return text

    for file in mounts["config"].glob("*.yaml"):
        file.write_text(placed(file.read_text()))
    env = {one["name"]: placed(one["value"]) for one in container.get("env", ())}
    env["DASK_ROOT_CONFIG"] = str(mounts["config"])  # Dask's word for /etc/dask
    program, *argv = container["args"]
    argv = [*program.split("-"), *argv][1:]  # dask-scheduler is dask scheduler
    if argv[0] == "scheduler":
        argv += ["--port", "0", "--no-dashboard", "--scheduler-file", str(cluster.scheduler_file)]
    else:
        argv = ["dask-1" if one == "$(DASK_WORKER_NAME)" else one for one in argv]
        env |= {"DASK_SCHEDULER_ADDRESS": cluster.address, "DASK_TEMPORARY_DIRECTORY": str(cluster.root)}
    cluster.spawn(name, [venv.python, "-m", "dask", *argv], **SIX, **env)
    if argv[0] == "scheduler":
        cluster.wait_for(cluster.has_address, "the scheduler's address")


def guarded_sync(cluster: Cluster, environment: Environment) -> None:
    """Show that the cluster is guarded before anybody has called us, and that a sync works."""
    cluster.wait_for(lambda: "guards this scheduler: mode sync" in cluster.log("scheduler"), "the guard")
    with cluster.client(workers=1) as client:
        assert "pkgsync-preload" in client.run_on_scheduler(plugins_there)
        wanted = environment_with(environment, {"six": "1.17.0"})
        report = pkgsync.sync(client, wanted, only=["six"], progress=False)
        assert {node.role: node.outcome for node in report.nodes} == {"scheduler": "live", "nanny": "live"}
        assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}


@pytest.fixture
def pods(venvs: Venvs, tmp_path: Path) -> Iterator[Cluster]:
    """Return a cluster whose processes are those of containers."""
    cluster = Cluster(tmp_path, venvs.make(*BASE_PACKAGES, str(SOURCE)), None)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.cluster
@pytest.mark.slow
def test_containers_of_a_dask_cluster_are_guarded(
    pods: Cluster, venvs: Venvs, base_environment: Environment, tmp_path: Path
) -> None:
    """The commands of the page's DaskCluster, with its ConfigMap as /etc/dask, make a guarded cluster that syncs."""
    config_map, resource = documents("kubernetes")
    mounts = {"config": tmp_path / "config", "layers": tmp_path / "layers"}
    mounts["config"].mkdir()
    for name, text in config_map["data"].items():
        (mounts["config"] / name).write_text(text)
    spec = resource["spec"]
    for part in (spec["scheduler"]["spec"], spec["worker"]["spec"]):
        assert {one["name"] for one in part["volumes"]} == set(mounts)
    (scheduler,), (worker,) = (spec[one]["spec"]["containers"] for one in ("scheduler", "worker"))
    run_container(pods, "scheduler", scheduler, mounts, pods.scheduler_venv)
    run_container(pods, "worker", worker, mounts, venvs.base())
    guarded_sync(pods, base_environment)
    assert len(list((tmp_path / "layers" / "layers").iterdir())) == 1


CHART = {
    "scheduler": {"image", "env", "extraArgs", "resources", "securityContext"},
    "worker": {"image", "env", "extraArgs", "mounts", "replicas", "resources", "securityContext"},
    "jupyter": {"enabled", "image", "env", "mounts"},
}
"""Keys that the values.yaml of the chart dask/dask 2025.11.0 has, as far as a page may want them."""


@pytest.mark.cluster
@pytest.mark.slow
def test_values_of_the_chart_make_a_guarded_cluster(
    pods: Cluster, venvs: Venvs, base_environment: Environment, tmp_path: Path
) -> None:
    """The values have keys that the chart knows, and its commands, put together as its templates do, are guarded.

    The chart itself is not there: neither its templates nor Kubernetes take part.
    """
    (values,) = documents("helm")
    assert all(set(values[part]) <= CHART[part] for part in values)
    assert all(isinstance(one["value"], str) for part in values.values() for one in part["env"])
    mounts = {"config": tmp_path / "config", "layers": tmp_path / "layers"}
    mounts["config"].mkdir()
    assert [one["name"] for one in values["worker"]["mounts"]["volumes"]] == ["layers"]
    scheduler = {
        "args": ["dask-scheduler", "--port=8786", "--dashboard-address=:8787"],
        "env": values["scheduler"]["env"],
    }
    run_container(pods, "scheduler", scheduler, mounts, pods.scheduler_venv)
    worker = {
        "args": ["dask-worker", pods.address, "--no-dashboard", "--dashboard-address", "8790", "--nthreads", "1"],
        "env": values["worker"]["env"],
        "volumeMounts": values["worker"]["mounts"]["volumeMounts"],
    }
    run_container(pods, "worker", worker, mounts, venvs.base())
    guarded_sync(pods, base_environment)
    assert len(list((tmp_path / "layers" / "layers").iterdir())) == 1
    client = dask.config.collect_env({one["name"]: one["value"] for one in values["jupyter"]["env"]})
    assert client["distributed"]["client"]["preload"] == ["dask_pkgsync.preload"]


# -- dask-gateway ------------------------------------------------------------------------------------------------------

LOCALLY = """
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.address = "127.0.0.1:{private}"
c.Proxy.address = "127.0.0.1:{public}"
"""


@pytest.mark.cluster
@pytest.mark.slow
def test_a_gateway_starts_guarded_clusters(venvs: Venvs, tmp_path: Path) -> None:
    """A real gateway with the page's configuration starts guarded clusters, which sync and scale."""
    server = venvs.make_or_skip("dask-gateway-server[local]")
    client = venvs.make_or_skip(*CLIENT, "dask-gateway")
    nodes = venvs.make_or_skip(*CRITICAL_PINS, "six==1.15.0", "dask-gateway", str(SOURCE))
    configured, script, options = blocks("gateway", "python")
    private, public = free_ports(2)
    changes = {'["dask", ': f'["{nodes.python}", "-m", "dask", ', "/var/tmp/dask-pkgsync": tmp_path / "layers"}
    config = adapted(configured, changes) + options + LOCALLY.format(private=private, public=public)
    (tmp_path / "dask_gateway_config.py").write_text(config)
    gateway = Cluster(tmp_path, server, None)
    try:
        argv = ["-m", "dask_gateway_server", "-f", str(tmp_path / "dask_gateway_config.py")]
        gateway.spawn("gateway", [server.python, *argv], **SIX)
        gateway.wait_for(lambda: reachable(private) and reachable(public), "the gateway")
        work = LOOK.replace('"outcomes"', '"plugins": client.run_on_scheduler(plugins), "outcomes"')
        work = f"def plugins(dask_scheduler):\n    return list(dask_scheduler.plugins)\n{work}"
        changes = {"http://gateway.example.org": f"http://127.0.0.1:{public}"}
        found = run_script(client, with_work(adapted(script, changes), work), tmp_path, **SIX)
    except BaseException:
        sys.stderr.write(gateway.logs())
        raise
    finally:
        gateway.stop()
    assert "pkgsync-preload" in found["plugins"]
    assert (found["six"], found["outcomes"]) == (["1.17.0", "1.17.0"], ["live"])
    assert len(list((tmp_path / "layers" / "layers").iterdir())) == 1


def free_ports(count: int) -> list[int]:
    """Return ports of this host that nobody uses right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def reachable(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


# -- worker and nanny classes ------------------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.slow
def test_subclasses_of_worker_and_nanny_stay_what_they_are(
    run_cluster: Run, target: Environment, tmp_path: Path
) -> None:
    """The page's classes take the environment, live and by a restart, and keep what they add."""
    (tmp_path / "my_nodes.py").write_text(blocks("worker-classes", "python")[0])
    with run_cluster(workers=0, env={"PYTHONPATH": str(tmp_path)}) as cluster:
        for number, (program, *argv) in enumerate(commands(blocks("worker-classes", "sh")[0])):
            assert program == "dask"
            cluster.start(f"node{number}", cluster.scheduler_venv, *(adapt_address(argv, cluster)))
        with cluster.client(workers=2) as client:
            assert len(set(on_workers(client, pid_here).values())) == 2
            before = sorted(on_workers(client, kind_here).values())
            assert before == [["MyWorker", 0, ""], ["MyWorker", 0, "0"]]
            assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}  # so they must restart
            report = pkgsync.sync(client, target, progress=False)
            assert [node.outcome for node in report.nodes if node.role == "nanny"] == ["restarted"] * 2
            client.wait_for_workers(2, timeout=60)
            assert set(on_workers(client, imported_version, "six").values()) == {LIGHT["six"]}
            assert sorted(on_workers(client, kind_here).values()) == before


def adapt_address(argv: list[str], cluster: Cluster) -> list[str]:
    """Return a command with the scheduler's own address."""
    return [cluster.address if one == "tcp://scheduler:8786" else one for one in argv]


def kind_here() -> list[Any]:
    """Return the class of this worker, and what its class and its nanny's class add."""
    from distributed import get_worker

    worker = get_worker()
    return [type(worker).__name__, worker.device, os.environ.get("MY_DEVICE", "")]


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.cluster
def test_tls_is_configured_once(
    run_cluster: Run, target: Environment, certificates: dict[str, str], tmp_path: Path
) -> None:
    """With the page's configuration on all sides, the cluster, the client and the command line go over TLS."""
    text = blocks("tls", "yaml")[0]
    names = {"ca.pem": certificates["cert"], "cert.pem": certificates["cert"], "key.pem": certificates["key"]}
    text = adapted(text, {f"/etc/dask/tls/{name}": path for name, path in names.items()})
    (tmp_path / "tls.yaml").write_text(text)
    with dask.config.set(dask.config.merge(dask.config.config, yaml.safe_load(text))):
        env = {"DASK_CONFIG": str(tmp_path / "tls.yaml")}
        with run_cluster(env=env, security=Security()) as cluster, cluster.client(workers=1) as client:
            assert cluster.address.startswith("tls://")
            pkgsync.sync(client, target, progress=False)
            assert set(on_workers(client, imported_version, "six").values()) == {LIGHT["six"]}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", VersionMismatchWarning)  # numpy differs between here and there
                shown = CliRunner().invoke(cli.pkgsync, ["status", cluster.address])
            assert shown.exit_code == 0, shown.output
            assert "tls://" in shown.output


# -- shared hosts and home directories ---------------------------------------------------------------------------------


@pytest.mark.cluster
@pytest.mark.slow
def test_two_clusters_share_a_cache_directory(run_cluster: Run, base_environment: Environment, tmp_path: Path) -> None:
    """Two schedulers' workers, with one cache directory, get different environments at the same time."""
    cache = tmp_path / "shared"
    wanted = [{"six": "1.17.0", "tabulate": "0.9.0"}, {"six": "1.16.0", "tabulate": "0.9.0"}]
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in wanted:
            cluster = stack.enter_context(run_cluster(workers=2, cache=cache, env=SIX))
            clients.append(stack.enter_context(cluster.client(workers=2)))
        targets = [environment_with(base_environment, changes) for changes in wanted]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda client, target: pkgsync.sync(client, target, progress=False), clients, targets))
        for client, changes in zip(clients, wanted, strict=True):
            found = on_workers(client, versions_here, ["six", "tabulate"])
            assert list(found.values()) == [changes, changes]
        assert len(list((cache / "layers").iterdir())) == 2


@pytest.mark.skipif(shutil.which("flock") is None, reason="this machine has no flock command")
def test_the_check_of_locks_finds_one_that_is_held(tmp_path: Path) -> None:
    """What the page lets people run on two hosts prints what it says, on one host."""
    hold, ask = adapted(
        blocks("shared-home", "sh")[0],
        {"~/.cache/lock-test": tmp_path / "lock", "sleep 20": "sh -c 'echo held; read line'"},
    ).splitlines()
    with subprocess.Popen(["sh", "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert subprocess.check_output(["sh", "-c", ask], text=True) == "taken\n"
        process.communicate()
    assert subprocess.check_output(["sh", "-c", ask], text=True) == "free\n"


@pytest.mark.parametrize(
    "other",
    [
        {"platform": "linux-aarch64", "tag": "cp311-cp311-manylinux_2_36_aarch64"},
        {"version": "3.99.0", "tag": "cp399-cp399-manylinux_2_36_x86_64"},
        {"implementation": "pypy"},
        {"tag": "cp311-cp311-musllinux_1_2_x86_64"},
    ],
)
def test_platforms_and_pythons_have_layers_of_their_own(base_environment: Environment, other: dict[str, str]) -> None:
    """In one directory, for the same packages, and with interpreters at the same path."""
    wanted = environment_with(base_environment, LIGHT)
    here = base_environment
    there = replace(here, interpreter=replace(here.interpreter, **other))
    digests = {
        layer_digest(make_plan(one, wanted, Policy.of()), Base(Path("/opt/python"), (), one)) for one in (here, there)
    }
    assert len(digests) == 2


# -- containers --------------------------------------------------------------------------------------------------------


def unprivileged() -> list[str]:
    """Return what a command begins with so that permissions of files count for it; skips where that cannot be had."""
    if os.geteuid() != 0:
        return []
    for prefix in (["unshare", "--user"], ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]):
        if (
            shutil.which(prefix[0])
            and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
        ):
            return prefix
    pytest.skip("this user may write everywhere, and can give that up neither with unshare nor with setpriv")


@pytest.fixture(scope="module")
def read_only_base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venv]:
    """Return an environment that nobody may write to, in a directory with a home directory that is like that, too."""
    image = tmp_path_factory.mktemp("image")
    venv = Venv(image / "venv")
    uv(["venv", "--python", base_python(), str(venv.root)])
    # Copies: a link would take the permissions of uv's cache away.
    uv(["pip", "install", "--link-mode", "copy", "--python", venv.python, *CRITICAL_PINS, "six==1.15.0"])
    (image / "home").mkdir()
    everything = [image, *(one for one in image.rglob("*") if not one.is_symlink())]
    modes = {path: path.stat().st_mode for path in everything}
    for path, mode in modes.items():
        path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    yield venv
    for path, mode in modes.items():
        path.chmod(mode)


@pytest.mark.cluster
@pytest.mark.parametrize(
    "configured", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["as-on-the-page", "without-configuration"]
)
def test_read_only_bases_of_users_that_are_not_root(read_only_base: Venv, configured: bool, tmp_path: Path) -> None:
    """With nothing writable but one directory, the cluster starts and takes an environment; the base stays as it is."""
    alone = unprivileged()
    scratch, home = tmp_path / "scratch", read_only_base.root.parent / "home"
    scratch.mkdir()
    tried = subprocess.run([*alone, "touch", str(home / "file")], check=False, capture_output=True)
    assert tried.returncode != 0, "the base can be written"
    (page,) = documents("containers")
    env = {one["name"]: adapted(one["value"], {"/scratch": scratch}) for one in page["env"]}
    if not configured:
        del env["DASK_PKGSYNC__CACHE_DIRECTORY"]
    before = read_only_base.listing()
    cluster = Cluster(scratch, read_only_base, None, env={**SIX, **env, "HOME": str(home), "XDG_CACHE_HOME": ""})
    start = [*alone, read_only_base.python, "-m", "dask"]
    try:
        cluster.spawn("scheduler", [*start, "scheduler", *commands_of_scheduler(cluster)])
        cluster.wait_for(cluster.has_address, "the scheduler's address")
        cluster.spawn("worker", [*start, "worker", cluster.address, "--nthreads", "1", "--no-dashboard"])
        with cluster.client(workers=1) as client:
            wanted = environment_with(read_only_base.environment(), {"six": "1.17.0"})
            assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}
            report = pkgsync.sync(client, wanted, only=["six"], progress=False)
            assert {node.role: node.outcome for node in report.nodes} == {"scheduler": "live", "nanny": "restarted"}
            client.wait_for_workers(1, timeout=60)
            assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}
            (user,) = on_workers(client, user_here).values()
    except BaseException:
        sys.stderr.write(cluster.logs())
        raise
    finally:
        cluster.stop()
    where = scratch / ("dask-pkgsync" if configured else f"dask-pkgsync-{user}")
    assert len(list((where / "layers").iterdir())) == 1
    assert read_only_base.listing() == before


def commands_of_scheduler(cluster: Cluster) -> list[str]:
    """Return the arguments of a scheduler on this host."""
    return ["--scheduler-file", str(cluster.scheduler_file), "--no-dashboard", "--host", "tcp://127.0.0.1:0"]


def user_here() -> int:
    """Return the number of this process's user."""
    return os.getuid()
