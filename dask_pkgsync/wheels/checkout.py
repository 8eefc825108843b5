"""Makes the copy of a project a git checkout whose version is the installed one.

Some build backends ship only the files that git tracks, and some ask git for the version. So git tracks every file of
the copy, in one commit that has the installed version as its tag. Nothing is read from the person's own repository but
the names of its tags, and nothing is written into it.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from packaging.version import VERSION_PATTERN

from dask_pkgsync.installers.programs import run
from dask_pkgsync.model.child_environment import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_DATE = "1980-01-01T00:00:00Z"
"""The date of the commit: some backends write the commit's hash into the wheel, which has to be reproducible."""
_PERSON = "dask-pkgsync"
_TAG = re.compile(rf"(?P<prefix>.*?)(?:{VERSION_PATTERN})", re.VERBOSE | re.IGNORECASE | re.ASCII)
_OF_BUILDS = ("*.egg-info/", "/build/", "/dist/", "__pycache__/", "*.py[cod]")
"""What builds write into the copy: not ignored, it would make the checkout a modified one."""
_MOST_TAGS = 1000
"""How many of a repository's newest tags are read."""
_MOST_PREFIXES = 20
_USUAL_PREFIXES = ("v", "")
"""How tags begin in a project without tags."""


def make_checkout(copy: Path, source: Path, version: str, *, timeout: float) -> bool:
    """Make a directory a git checkout, all of whose files are committed and tagged with a version. Blocks.

    Parameters
    ----------
    copy : Path
        The copy of the project.
    source : Path
        The project itself. If its repository has tags, those of the copy begin as they do, for example with ``v``.
    version : str
        The installed version.
    timeout : float
        Seconds that each call of git may take.

    Returns
    -------
    bool
        False if this machine has no git, or git fails: then the backend tells what it lacks.
    """
    git = shutil.which("git")
    if git is None:
        return False
    listed = run(
        [git, "for-each-ref", f"--count={_MOST_TAGS}", "--sort=-creatordate", "--format=%(refname:short)", "refs/tags"],
        timeout=timeout,
        cwd=source,
        env=_environment(copy),
    )
    for argv in (
        ["init", "--quiet", "--template="],
        ["add", "--force", "--all", "."],
        ["commit", "--quiet", "--allow-empty", "--message", "copy"],
        *(["tag", f"{prefix}{version}"] for prefix in tag_prefixes(listed.stdout.splitlines())),
    ):
        if run([git, *argv], timeout=timeout, cwd=copy, env=_environment(copy)).returncode:
            return False
    exclude = copy / ".git" / "info" / "exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("\n".join(_OF_BUILDS))
    return True


def tag_prefixes(tags: Iterable[str]) -> list[str]:
    """Return what stands before the version in tags, each once; what is usual if no tag has a version.

    >>> tag_prefixes(["v1.0", "app/v0.3", "v0.9", "nightly"])
    ['v', 'app/v']
    """
    found = (match["prefix"] + _letter(match) for match in map(_TAG.fullmatch, tags) if match)
    return list(dict.fromkeys(found))[:_MOST_PREFIXES] or list(_USUAL_PREFIXES)


def _letter(match: re.Match[str]) -> str:
    """Return the ``v`` that a version may begin with (PEP 440)."""
    rest = match[0][len(match["prefix"]) :]
    return rest[: len(rest) - len(rest.lstrip("vV"))]


def _environment(copy: Path) -> dict[str, str]:
    """Return the variables of a child in which no configuration of the person's and no other repository counts."""
    inherited = {name: value for name, value in child_environment(os.environ).items() if not name.startswith("GIT_")}
    return {
        **inherited,
        **dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "GIT_CEILING_DIRECTORIES"), str(copy.parent)),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{role}_NAME": _PERSON for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_EMAIL": f"{_PERSON}@localhost" for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_DATE": _DATE for role in ("AUTHOR", "COMMITTER")},
    }
