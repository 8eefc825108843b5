"""The how-to pages of docs/deployments: their blocks are what the tests run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import textwrap
from typing import TYPE_CHECKING, Any

import yaml
from clusters import SOURCE, surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clusters import Venv

PAGES = SOURCE / "docs" / "deployments"

WORK = "# your work\n"
"""Where a script of a page says this, a test puts in what it looks at."""


def pages() -> list[str]:
    """Return the names of all pages."""
    return sorted(path.stem for path in PAGES.glob("*.md"))


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page that are in a language, in their order."""
    text = (PAGES / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def documents(page: str) -> list[Any]:
    """Return what the YAML blocks of a page hold."""
    return [one for block in blocks(page, "yaml") for one in yaml.safe_load_all(block)]


def commands(text: str) -> list[list[str]]:
    """Return the arguments of each command in a shell block."""
    return [shlex.split(line) for line in text.splitlines()]


def exported(text: str) -> dict[str, str]:
    """Return the environment variables that a shell block exports."""
    return dict(argv[1].split("=", 1) for argv in commands(text) if argv[0] == "export")


def adapted(text: str, changes: Mapping[str, object]) -> str:
    """Return a block with the names of a page (hosts, paths) replaced by those of the test; each must be there."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not on the page any more"
        text = text.replace(old, str(new))
    return text


def with_work(script: str, work: str) -> str:
    """Return a script with code in the place that a page leaves for it."""
    (indent,) = re.findall(rf"^( *){WORK}", script, re.MULTILINE)
    return script.replace(f"{indent}{WORK}", textwrap.indent(textwrap.dedent(work).strip("\n") + "\n", indent))


def run_script(venv: Venv, script: str, root: Path, **env: str) -> Any:
    """Run a script in an environment, and return what it printed last, as JSON."""
    path = root / "script.py"
    path.write_text(script)
    settings = {"DASK_PKGSYNC__MODULES": "false", "DASK_TEMPORARY_DIRECTORY": str(root), **env}
    done = subprocess.run(
        [venv.python, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=surroundings(**settings),
        cwd=root,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
