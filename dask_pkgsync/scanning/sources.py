"""Which files of a directory are source code and its data, and a digest of them.

The same files are left out of projects that are built and of loose modules: those that ``.gitignore`` excludes, virtual
environments, caches, version control, and files that commonly hold secrets. Of a project, two kinds of files that
``.gitignore`` excludes are included all the same, as they can be imported or read where it is installed: Python files,
which tools generate (``_version.py``), and what lies in a package.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import os
import re
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.text import counted, human_bytes
from dask_pkgsync.scanning.file_states import Remembered, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from zipfile import ZipFile

    from pathspec import GitIgnoreSpec


class _Names:
    """Tells whether a name fits one of some patterns, in any case. They are compiled when they are first used."""

    def __init__(self, *patterns: str) -> None:
        self._patterns = patterns

    def __call__(self, name: str) -> bool:
        """Whether a name fits."""
        return self._match(name) is not None

    @cached_property
    def _match(self) -> Callable[[str], re.Match[str] | None]:
        return re.compile("|".join(map(fnmatch.translate, self._patterns)), re.IGNORECASE).match


_NEVER_DIRECTORIES = frozenset(
    (
        *("__pycache__", ".git", ".hg", ".svn", ".bzr", ".venv", ".tox", ".nox", ".eggs", ".idea", ".vscode"),
        *(".ipynb_checkpoints", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".cache"),
        *("node_modules", ".ssh", ".aws", ".gnupg", ".kube"),
    )
)
_NEVER_FILES = _Names(
    *("*.py[cod]", "*.swp", "*~", ".DS_Store", ".coverage", ".coverage.*"),
    *(".env", ".env.*", "*.key", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", ".pypirc"),
    *(".git-credentials", "*.p12", "*.pfx", "*.jks", "*.kdbx", "*.ppk", ".pgpass", ".npmrc", ".htpasswd", ".dockercfg"),
)
_NEVER_LOOSE = _Names(
    "*.pem", "*.crt", "*.env", "*.tfvars", "*credential*", "*secret*", "service*account*.json", "*.ipynb"
)
"""Further files that are left out of loose modules, because no build backend selects their files."""
_NEVER_IGNORED = _Names("*.log", "*.tmp", "*.pid", "*.lock")
"""Further files that are left out of packages if ``.gitignore`` excludes them: running programs change them."""
_NOT_OF_PROJECTS = _Names("build", "dist", "*.egg-info", ".gitignore")
"""Names, at the root of a project, of the output of earlier builds, and of rules that would hide from a build backend
what travels."""
_IGNORED_LIMIT = 50_000_000
"""The most bytes of data in the packages of a project that ``.gitignore`` excludes and that travels all the same."""
_UNFIT_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of controls, of bytes that are no text (surrogates), and of line and paragraph separators."""
_SHOWN = 5
"""The most files that a message names."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A source or data file of a project or loose module."""

    path: str
    """Path relative to the root of the project or module, with ``/``; that of a file beside a project begins with
    ``../``."""
    full: Path
    """Path of the file on this machine."""
    size: int
    """Size in bytes."""
    executable: bool

    def read(self) -> bytes:
        """Return its content."""
        return self.full.read_bytes()

    def digest(self) -> str:
        """Return the SHA-256 of its content, 64 hexadecimal digits."""
        return _DIGESTS.of(str(self.full), partial(_sha256_of, self.full))


class Archive:
    """A zip archive, which is opened once.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def bundle(self) -> ZipFile:
        """The opened archive."""
        import zipfile

        try:
            return zipfile.ZipFile(self.path)
        except zipfile.BadZipFile as error:
            raise OSError(errno.EINVAL, str(error), str(self.path)) from None

    def read(self, name: str) -> bytes:
        """Return the content of a file in it."""
        import zipfile
        import zlib

        try:
            return self.bundle.read(name)
        except (zipfile.BadZipFile, KeyError, zlib.error) as error:  # it was changed in place
            raise OSError(errno.EINVAL, str(error), str(self.path)) from None


@dataclass(frozen=True, slots=True)
class ZippedFile(SourceFile):
    """A source or data file in a zip archive; ``full`` is the path of the archive with that of the file in it."""

    archive: Archive

    def read(self) -> bytes:
        """Return its content."""
        return self.archive.read(self.path)

    def digest(self) -> str:
        """Return the SHA-256 of its content, 64 hexadecimal digits."""
        return hashlib.sha256(self.read()).hexdigest()


@dataclass(frozen=True)
class Sources:
    """The files of a project or of loose modules, as they were when they were looked up."""

    files: tuple[SourceFile, ...]
    """The files that travel, sorted by path."""
    left_out: tuple[tuple[Path, str], ...]
    """Files and directories that do not travel although they look like the others, each with the reason."""
    _digests: dict[tuple[str, ...], str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def digest(self, *facts: str) -> str:
        """Return the digest of the files and of further facts (`digest_of`); it is worked out once."""
        if facts not in self._digests:
            self._digests[facts] = digest_of(self.files, *facts)
        return self._digests[facts]


_SOURCES: Remembered[Sources] = Remembered(limit=1_000)
"""The files of projects and of loose modules. The state of each file is noted, so that none changes unnoticed."""


def project_files(root: Path) -> list[SourceFile]:
    """Return the files of a project that its build may read, sorted by path.

    Raises
    ------
    OSError
        If a directory cannot be listed.
    """
    return list(project_sources(root).files)


def project_sources(root: Path) -> Sources:
    """Return the files of a project that its build may read, and those that are left out.

    Raises
    ------
    OSError
        If a directory cannot be listed.
    """
    return _SOURCES.of(os.path.abspath(root), partial(_project_sources, root))  # noqa: PTH100


def _project_sources(root: Path, watch: Watch) -> Sources:
    from dask_pkgsync.scanning.build_files import paths_outside  # imported here because it is rarely needed

    watch.state(str(root))
    names = [name for name in os.listdir(root) if not _NOT_OF_PROJECTS(name)]  # noqa: PTH208
    own = _needed(root, _Walk(root, watch, loose=False).sources(names), watch)
    outside = [_outside(root, path, watch) for path in paths_outside(root, watch)]
    files = {file.path: file for found in (own, *outside) for file in found.files}
    left_out = tuple(entry for found in (own, *outside) for entry in found.left_out)
    return Sources(tuple(sorted(files.values(), key=lambda file: file.path)), left_out)


def _needed(root: Path, sources: Sources, watch: Watch) -> Sources:
    """Return those files of a project that its build may read."""
    from dask_pkgsync.scanning.build_files import needed

    contents: dict[str, list[str]] = {}
    for file in sources.files:
        contents.setdefault(file.path.partition("/")[0], []).append(file.path)
    kept = needed(root, contents, watch)
    return replace(sources, files=tuple(file for file in sources.files if file.path.partition("/")[0] in kept))


def _outside(root: Path, path: str, watch: Watch) -> Sources:
    """Return the files of a path outside of a project; their own paths begin with ``../``, too."""
    place = Path(os.path.normpath(root / path))
    found = _Walk(place.parent, watch, loose=False).sources([place.name])
    above = path.removesuffix(place.name)
    return replace(found, files=tuple(replace(file, path=f"{above}{file.path}") for file in found.files))


def loose_files(root: Path, names: Iterable[str]) -> Sources:
    """Return the files of some loose modules and packages of a directory."""
    chosen = tuple(names)
    key = os.path.abspath(root), chosen  # noqa: PTH100
    return _SOURCES.of(key, lambda watch: _Walk(root, watch, loose=True).sources(chosen))


def installed_files(root: Path, names: Iterable[str]) -> Sources:
    """Return the files of some installed modules and packages of a directory."""
    return _Walk(root, Watch(), loose=False).sources(names)


def zipped_files(path: Path) -> Sources:
    """Return the files in a zip archive that may be parts of loose modules.

    Raises
    ------
    OSError
        If the archive cannot be read.
    """
    archive = Archive(path)
    files: list[SourceFile] = []
    left_out: list[tuple[Path, str]] = []
    for entry in sorted(archive.bundle.infolist(), key=lambda entry: entry.filename):
        *above, name = entry.filename.split("/")
        if entry.is_dir() or not _NEVER_DIRECTORIES.isdisjoint(above) or _is_left_out(name, loose=True):
            continue
        if all(map(fits_a_wheel, (*above, name))):
            full = path / entry.filename
            files.append(ZippedFile(entry.filename, full, entry.file_size, executable=False, archive=archive))
        else:
            left_out.append((path / entry.filename, _UNFIT))
    return Sources(tuple(files), tuple(left_out))


def digest_of(files: Sequence[SourceFile], *facts: str) -> str:
    """Return the digest of files, ``source=`` and a SHA-256, over their paths, contents and modes and further facts."""
    rows = [[file.path, file.executable, file.digest()] for file in files]
    return "source=" + hashlib.sha256(json.dumps([1, list(facts), rows]).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sha256_of(path: Path, watch: Watch) -> str:
    watch.state(str(path))
    return sha256_of(path)


_DIGESTS: Remembered[str] = Remembered(limit=100_000)
"""The SHA-256 of files."""


def copy_to(files: Sequence[SourceFile], directory: Path) -> list[SourceFile]:
    """Copy files into a directory, with their modes but without their dates; return the copies."""
    import shutil

    copies = [replace(file, full=Path(os.path.normpath(directory / file.path))) for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.full.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.full, copy.full)
        copy.full.chmod(0o755 if file.executable else 0o644)
    return copies


class _Walk:
    """One walk through the files of a project, or of some loose modules."""

    def __init__(self, root: Path, watch: Watch, *, loose: bool) -> None:
        self.root = root
        self.watch = watch
        self.loose = loose
        self.files: list[SourceFile] = []
        self.ignored: list[SourceFile] = []
        """Data in packages that ``.gitignore`` excludes."""
        self.left_out: list[tuple[Path, str]] = []

    def sources(self, names: Iterable[str]) -> Sources:
        """Return the files and directories with these paths below the root, and all that is below them."""
        rules = _rules_above(self.root, self.watch)
        if (own := _rules_in(self.root, self.watch)) is not None:
            rules.append((str(self.root), _admitting(self.root, self.root, own)))
        below: dict[str, set[str]] = {}
        for path in names:
            above, slash, name = path.rpartition("/")
            below.setdefault(above + slash, set()).add(name)
        for above, chosen in below.items():
            directory = self.root / above
            self.watch.state(str(directory))
            if directory.is_dir():
                real = (os.path.realpath(directory),)
                self._visit_all(directory, above, frozenset(chosen), rules, real, in_package=False)
        if sum(file.size for file in self.ignored) <= _IGNORED_LIMIT:
            self.files += self.ignored
        else:
            self.left_out.append((self.root, _too_much_ignored(self.ignored)))
        return Sources(tuple(sorted(self.files, key=lambda file: file.path)), tuple(self.left_out))

    def _visit_all(
        self,
        directory: Path | str,
        above: str,
        names: frozenset[str] | None,
        rules: list[tuple[str, GitIgnoreSpec]],
        real: tuple[str, ...],
        *,
        in_package: bool,
    ) -> None:
        """Visit the entries of a directory, or those with some names."""
        try:
            with os.scandir(directory) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except FileNotFoundError:  # it was removed just now
            return
        for entry in entries:
            if names is None or entry.name in names:
                self._visit(entry, f"{above}{entry.name}", rules, real, in_package=in_package)

    def _visit(
        self,
        entry: os.DirEntry[str],
        path: str,
        rules: list[tuple[str, GitIgnoreSpec]],
        above: tuple[str, ...],
        *,
        in_package: bool,
    ) -> None:
        """Take a file, or the files below a directory.

        ``above`` holds the real paths of the directories on the way, so that a loop of symbolic links ends.
        """
        if entry.is_symlink():
            self.watch.state(entry.path)  # it may lead nowhere yet
        if not entry.is_dir():
            self._take(entry, path, rules, in_package=in_package)
            return
        real = os.path.realpath(entry.path) if entry.is_symlink() else f"{above[-1]}{os.sep}{entry.name}"
        if real in above or not _NEVER_DIRECTORIES.isdisjoint((entry.name, os.path.basename(real))):  # noqa: PTH119
            return
        self.watch.state(entry.path)
        if _is_environment(entry.path):
            return
        in_package = not self.loose and (in_package or os.path.exists(f"{entry.path}/__init__.py"))  # noqa: PTH110
        if not in_package and _is_ignored(f"{entry.path}/", rules):
            return
        if not fits_a_wheel(entry.name):
            self.left_out.append((Path(entry.path), _UNFIT))
            return
        own = _rules_in(entry.path, self.watch)
        inner = [*rules, (entry.path, own)] if own is not None else rules
        self._visit_all(entry.path, f"{path}/", None, inner, (*above, real), in_package=in_package)

    def _take(
        self, entry: os.DirEntry[str], path: str, rules: list[tuple[str, GitIgnoreSpec]], *, in_package: bool
    ) -> None:
        name = entry.name
        if _is_left_out(name, loose=self.loose) or not entry.is_file():
            return
        is_generated = not self.loose and name.endswith(".py")
        is_ignored = not is_generated and _is_ignored(entry.path, rules)
        if is_ignored and (not in_package or _NEVER_IGNORED(name)):
            return
        if not fits_a_wheel(name):
            self.left_out.append((Path(entry.path), _UNFIT))
            return
        facts = entry.stat()
        self.watch.note(entry.path, facts)
        file = SourceFile(path, Path(entry.path), facts.st_size, bool(facts.st_mode & 0o111))
        (self.ignored if is_ignored else self.files).append(file)


_UNFIT = "no wheel can hold a file of this name: it is not UTF-8, or has control characters or backslashes"


def fits_a_wheel(name: str) -> bool:
    """Whether a wheel and its RECORD can hold a file of this name."""
    if name.isascii():  # nearly all are, and this is faster
        return name.isprintable() and "\\" not in name
    import unicodedata

    return "\\" not in name and not any(unicodedata.category(letter) in _UNFIT_CATEGORIES for letter in name)


def _is_left_out(name: str, *, loose: bool) -> bool:
    """Whether a file is left out for its name."""
    is_code = name.endswith((".py", *EXTENSION_SUFFIXES))
    return _NEVER_FILES(name) or (loose and not is_code and _NEVER_LOOSE(name))


def _too_much_ignored(files: Sequence[SourceFile]) -> str:
    total = human_bytes(sum(file.size for file in files))
    return (
        f"git ignores {counted(len(files), 'file')} in its packages ({total}), and ignored files travel up to "
        f"{human_bytes(_IGNORED_LIMIT)}. The largest: {largest_of(files)}. Take what tasks need out of .gitignore"
    )


def largest_of(files: Iterable[SourceFile]) -> str:
    """Name the largest of some files, with their sizes."""
    largest = sorted(files, key=lambda file: -file.size)[:_SHOWN]
    return ", ".join(f"{file.full} ({human_bytes(file.size)})" for file in largest)


def _is_environment(directory: str) -> bool:
    """Whether a directory is a virtual environment, or one of conda."""
    return os.path.exists(f"{directory}/pyvenv.cfg") or os.path.isdir(f"{directory}/conda-meta")  # noqa: PTH110, PTH112


def _is_ignored(full: str, rules: list[tuple[str, GitIgnoreSpec]]) -> bool:
    """Whether the ``.gitignore`` files exclude a path; of those that mention it, the innermost decides."""
    ignored = False
    for directory, spec in rules:
        answer = spec.check_file(full[len(directory) + 1 :]).include
        if answer is not None:
            ignored = answer
    return ignored


def _rules_in(directory: Path | str, watch: Watch) -> GitIgnoreSpec | None:
    path = Path(directory, ".gitignore")
    if watch.state(str(path)) is None:
        return None
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(text.splitlines())


def _rules_above(root: Path, watch: Watch) -> list[tuple[str, GitIgnoreSpec]]:
    """Return the rules of the ``.gitignore`` files above a directory up to the top of its checkout, outermost first.

    Without those that exclude all of the directory: whoever runs a script in a directory that git ignores has chosen
    the directory.
    """
    parents = [root, *root.parents]
    top = next((index for index, parent in enumerate(parents) if watch.exists(str(parent / ".git"))), 0)
    rules_by_directory = ((parent, _rules_in(parent, watch)) for parent in reversed(parents[1 : top + 1]))
    return [(str(parent), _admitting(root, parent, rules)) for parent, rules in rules_by_directory if rules is not None]


def _admitting(root: Path, parent: Path, rules: GitIgnoreSpec) -> GitIgnoreSpec:
    """Return the rules of a directory; if they exclude all Python files of one below it, without those that do."""
    probe = (root / "-.py").relative_to(parent).as_posix()
    if not rules.check_file(probe).include:
        return rules
    return type(rules)(pattern for pattern in rules.patterns if not (pattern.include and pattern.match_file(probe)))
