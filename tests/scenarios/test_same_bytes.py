"""Same means the same bytes: builds of one version, modified packages, and modified bases, on a real cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from clusters import CRITICAL_PINS, SOURCE, Person, Venv, base_python, running, uv
from package_index import Index, serving, wheel

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cluster

DASKS = ("six==1.16.0", "inflection==0.5.1", *CRITICAL_PINS)

LOOK = """
def look(pause=None):
    import importlib
    found = {}
    for name in ("twin_build", "inflection", "six", "other_build"):
        try:
            module = importlib.import_module(name)
            found[name] = getattr(module, "V", "as released")
        except ImportError:
            found[name] = None
    return found

def synced(**options):
    import warnings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            report = pkgsync.sync(client, progress=False, **options)
        except pkgsync.PkgsyncError as error:
            return {"error": str(error)}
    text = str(report) + " ".join(str(warning.message) for warning in caught)
    return {"there": everywhere(look)[0], "text": text, "details": [step for node in report.nodes
            for step in map(str, [*node.installed, *node.replaced, *node.skipped, *node.notes])]}

def patch(package, line):
    import importlib.util, pathlib
    path = pathlib.Path(importlib.util.find_spec(package).origin)
    text = path.read_text() + line
    path.unlink()  # it may be a hard link to the installer's cache
    path.write_text(text)

results = {}
"""


def install_build(venv: Venv, directory: Path, name: str, build: str) -> None:
    """Install one build of version 1.0 of a package."""
    directory.mkdir()
    filename, data = wheel(name, "1.0", more={f"{name}_build.py": f"V = {build!r}\n"})
    (directory / filename).write_bytes(data)
    source = ["--no-cache", "--no-index", "--find-links", str(directory)]
    uv(["pip", "install", *source, "--python", venv.python, f"{name}==1.0"])


def edit(path: Path, line: str) -> None:
    """Add a line to an installed file, which may be a hard link to the installer's cache."""
    text = path.read_text()
    path.unlink()
    path.write_text(f"{text}\n{line}\n")


@pytest.fixture
def base(tmp_path: Path) -> Venv:
    """Return an environment for nodes, which the test may change."""
    venv = Venv(tmp_path / "base")
    uv(["venv", "--python", base_python(), str(venv.root)])
    uv(["pip", "install", "--python", venv.python, *DASKS])
    return venv


@pytest.mark.slow
def test_workers_have_the_clients_build_of_each_package(base: Venv, tmp_path: Path) -> None:
    """Another build on the node, in the index, modified here or there: each is found, and becomes the client's."""
    person = Person(tmp_path / "person", *DASKS, str(SOURCE))
    install_build(base, tmp_path / "a", "twin", "node's")
    install_build(person.venv, tmp_path / "b", "twin", "client's")
    install_build(person.venv, tmp_path / "c", "other", "client's")
    six = next(base.root.glob("lib/python*/site-packages/six.py"))
    edit(six, "V = 'patched on the node'")
    listed = base.listing()
    index = Index()
    index.add("other", "1.0", more={"other_build.py": "V = 'of the index'\n"})
    (tmp_path / "cluster").mkdir()
    with (
        serving(index),
        running(
            tmp_path / "cluster", base, tmp_path / "cache", env={"UV_DEFAULT_INDEX": index.url, "UV_NO_CONFIG": "1"}
        ) as cluster,
    ):
        found: dict[str, Any] = person.run(
            cluster,
            LOOK
            + """
results["index only"] = synced(transport="index", only=["other"])
results["warn"] = synced(builds="warn", ignore=["other"])
results["version"] = synced(levels={"twin": "version"}, ignore=["other"])
results["first"] = synced()
results["status"] = str(pkgsync.status(client))
patch("inflection", "\\nV = 'patched once'\\n")
results["patched"] = synced()
patch("inflection", "\\nV = 'patched twice'\\n")
results["again"] = synced()
here = pkgsync.scan(verify=True, modules=False)
results["differences"] = [row.name for row in pkgsync.compare(here, pkgsync.scan(modules=False))]
print(json.dumps(results))
""",
        )
    assert "the index has other builds of other==1.0" in found["index only"]["error"]
    assert "transport='auto'" in found["index only"]["error"]
    assert found["warn"]["there"]["twin_build"] == "node's"
    assert any("another build" in detail and "twin" in detail for detail in found["warn"]["details"])
    assert found["version"]["there"]["twin_build"] == "node's"
    assert not any("another build" in detail for detail in found["version"]["details"])
    everything = {
        "twin_build": "client's",
        "inflection": "as released",
        "six": "as released",
        "other_build": "client's",
    }
    assert found["first"].get("there") == everything, found["first"]
    assert "matches" in found["status"]
    assert found["patched"]["there"] == {**everything, "inflection": "patched once"}
    assert found["again"]["there"] == {**everything, "inflection": "patched twice"}
    assert found["differences"] == ["inflection"]
    assert "inflection" in found["again"]["text"]
    assert base.listing() == listed
