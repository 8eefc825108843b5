"""Which files of a directory are source code and its data, and a digest of them.

The same files are left out of projects that are built and of loose modules: those that ``.gitignore`` excludes, virtual
environments, caches, version control, and files that commonly hold secrets. Of a project, a Python file that
``.gitignore`` excludes by its own name is included all the same: tools generate such files (``_version.py``), and the
build needs them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pathspec import GitIgnoreSpec

_NEVER_DIRECTORIES = frozenset(
    (
        *("__pycache__", ".git", ".hg", ".svn", ".bzr", ".venv", ".tox", ".nox", ".eggs", ".idea", ".vscode"),
        *(".ipynb_checkpoints", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".cache"),
        *("node_modules", ".ssh", ".aws", ".gnupg", ".kube"),
    )
)
_NEVER_FILES = (
    *("*.py[cod]", "*.swp", "*~", ".DS_Store", ".coverage", ".coverage.*"),
    *(".env", ".env.*", "*.key", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", ".pypirc"),
    *(".git-credentials", "*.p12", "*.pfx", "*.jks", "*.kdbx", "*.ppk", ".pgpass", ".npmrc", ".htpasswd", ".dockercfg"),
)
_NEVER_LOOSE = ("*.pem", "*.crt", "*.env", "*.tfvars", "*credential*", "*secret*", "service*account*.json", "*.ipynb")
"""Further files that are left out of loose modules, because no build backend selects their files."""
_OF_BUILDS = ("build", "dist", "*.egg-info")
"""Names, at the root of a project, of the output of earlier builds."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A source or data file of a project or loose module."""

    path: str
    """Path relative to the root of the project or module, with ``/``."""
    full: Path
    """Path of the file on this machine."""
    size: int
    """Size in bytes."""
    executable: bool


def project_files(root: Path) -> list[SourceFile]:
    """Return the files of a project that its build may read, sorted by path.

    Raises
    ------
    OSError
        If a directory cannot be listed.
    """
    top = [name for name in os.listdir(root) if not _is_any(name, _OF_BUILDS)]  # noqa: PTH208  # names are enough
    return sorted(_walk(root, top, loose=False), key=lambda file: file.path)


def loose_files(root: Path, names: Sequence[str]) -> list[SourceFile]:
    """Return the files of some loose modules and packages of a directory, sorted by path."""
    return sorted(_walk(root, names, loose=True), key=lambda file: file.path)


def digest_of(files: Sequence[SourceFile], *facts: str) -> str:
    """Return the digest of files, ``source=`` and a SHA-256, over their paths, contents and modes and further facts."""
    rows = [[file.path, file.executable, sha256_of(file.full)] for file in files]
    return "source=" + hashlib.sha256(json.dumps([1, list(facts), rows]).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def copy_to(files: Sequence[SourceFile], directory: Path) -> None:
    """Copy files into a directory, with their modes but without their dates."""
    for file in files:
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.full.read_bytes())
        target.chmod(0o755 if file.executable else 0o644)


def _walk(root: Path, names: Sequence[str], *, loose: bool) -> Iterator[SourceFile]:
    rules = _rules_above(root)
    if (own := _rules_in(root)) is not None:
        rules.append((str(root), own))
    for name in sorted(names):
        yield from _visit(root, name, rules, loose, (os.path.realpath(root),))


def _visit(
    root: Path,
    path: str,
    rules: list[tuple[str, GitIgnoreSpec]],
    loose: bool,  # noqa: FBT001  # private, and called here alone
    above: tuple[str, ...],
) -> Iterator[SourceFile]:
    """Yield a file, or the files below a directory.

    ``above`` holds the real paths of the directories on the way, so that a loop of symbolic links ends.
    """
    full, name = root / path, path.rpartition("/")[2]
    if full.is_dir():
        real = os.path.realpath(full)
        if real in above or _is_no_source(full, name) or _is_ignored(f"{full}/", rules):
            return
        own = _rules_in(full)
        inner = [*rules, (str(full), own)] if own is not None else rules
        for entry in sorted(os.listdir(full)):  # noqa: PTH208
            yield from _visit(root, f"{path}/{entry}", inner, loose, (*above, real))
        return
    is_code = name.endswith((".py", *EXTENSION_SUFFIXES))
    if not full.is_file() or _is_any(name, _NEVER_FILES) or (loose and not is_code and _is_any(name, _NEVER_LOOSE)):
        return
    is_generated = not loose and name.endswith(".py")
    if not is_generated and _is_ignored(str(full), rules):
        return
    facts = full.stat()
    yield SourceFile(path, full, facts.st_size, bool(facts.st_mode & 0o111))


def _is_no_source(directory: Path, name: str) -> bool:
    if name in _NEVER_DIRECTORIES or os.path.basename(os.path.realpath(directory)) in _NEVER_DIRECTORIES:  # noqa: PTH119
        return True
    return (directory / "pyvenv.cfg").exists() or (directory / "conda-meta").is_dir()


def _is_any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)


def _is_ignored(full: str, rules: list[tuple[str, GitIgnoreSpec]]) -> bool:
    """Whether the ``.gitignore`` files exclude a path; of those that mention it, the innermost decides."""
    ignored = False
    for directory, spec in rules:
        answer = spec.check_file(full[len(directory) + 1 :]).include
        if answer is not None:
            ignored = answer
    return ignored


def _rules_in(directory: Path) -> GitIgnoreSpec | None:
    try:
        text = (directory / ".gitignore").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(text.splitlines())


def _rules_above(root: Path) -> list[tuple[str, GitIgnoreSpec]]:
    """Return the rules of the ``.gitignore`` files above a directory up to the top of its checkout, outermost first."""
    parents = [root, *root.parents]
    top = next((index for index, parent in enumerate(parents) if (parent / ".git").exists()), 0)
    rules_by_directory = ((parent, _rules_in(parent)) for parent in reversed(parents[1 : top + 1]))
    return [(str(parent), rules) for parent, rules in rules_by_directory if rules is not None]
