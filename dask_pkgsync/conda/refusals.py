"""What keeps a node from having a prefix at all, told before anything of it is built."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dask_pkgsync.conda.records import label
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dask_pkgsync.conda.installer import Answer
    from dask_pkgsync.model.environments.conda import CondaPackage

_SHOWN = 20
_MB = 1_000_000


def refuse_long_path(packages: Sequence[CondaPackage], final: Path) -> None:
    """Raise `LayerError` if the path of a prefix is too long for programs or libraries of some packages."""
    length = len(os.fsencode(final))
    limited = [package for package in packages if 0 < package.placeholder < length]
    if limited:
        names = ", ".join(f"{label(package)} (at most {package.placeholder})" for package in limited[:_SHOWN])
        raise LayerError(
            "install",
            f"the path of the prefix has {length} bytes, and there is no room for it in files of {names}: {final}",
            advice="Set pkgsync.cache-directory on that node to a directory with a shorter path.",
            packages=tuple(map(label, limited)),
        )


def refuse_unfit(packages: Sequence[CondaPackage], answer: Answer) -> None:
    """Raise `LayerError` if the node has not what packages need: another platform, virtual packages, or room."""
    by_name = {package.name: package for package in packages}
    foreign = [package for package in packages if package.subdir not in ("noarch", answer.subdir)]
    unmet: dict[str, list[str]] = {}
    for name, spec in answer.unmet:
        unmet.setdefault(name, []).append(spec)
    problems, advice = [], []
    if foreign:
        names = ", ".join(f"{label(package)} ({package.subdir})" for package in foreign[:_SHOWN])
        problems.append(f"the node is {answer.subdir}, and these packages are for another platform: {names}")
        advice.append(f"Start nodes of the client's platform, or sync from a client on {answer.subdir}.")
    if unmet:
        problems += [_needs(by_name[name], specs, answer.virtual) for name, specs in list(unmet.items())[:_SHOWN]]
        advice.append(
            "Start the node on a machine (image, driver) that has what these packages need, or take builds of them "
            "that need less. If the node has more than is detected, CONDA_OVERRIDE_GLIBC, CONDA_OVERRIDE_CUDA, … on "
            "that node say what it has."
        )
    if answer.needed > answer.free:
        problems.append(
            f"there is no room for the packages: they need {answer.needed / _MB:,.0f} MB, and "
            f"{answer.free / _MB:,.0f} MB are free"
        )
        advice.append("Free space, or set pkgsync.cache-directory on that node to a larger file system.")
    if problems:
        blamed = dict.fromkeys([*map(label, foreign), *(label(by_name[name]) for name in unmet)])
        raise LayerError("install", "; ".join(problems), advice=" ".join(advice), packages=tuple(blamed))


def _needs(package: CondaPackage, specs: Sequence[str], virtual: Mapping[str, list[str]]) -> str:
    names = dict.fromkeys(spec.partition(" ")[0] for spec in specs)
    has = [" ".join((name, *_said(virtual[name]))) if name in virtual else f"no {name}" for name in names]
    return f"{label(package)} needs {', '.join(specs)}, and the node has {', '.join(has)}"


def _said(virtual: Sequence[str]) -> list[str]:
    """Return version and build of a virtual package, as far as they say anything."""
    return [part for part in virtual if part != "0"]


def refuse_missing(
    missing: Mapping[CondaPackage, str], because: LayerError | None, *, asked_client: bool, asked_channel: bool
) -> None:
    """Raise `LayerError` if there are packages that no source has.

    Parameters
    ----------
    missing : mapping of CondaPackage to str
        Why the channel has not given each of them.
    because : LayerError, optional
        Why the client has not given them.
    asked_client, asked_channel : bool
        Whether the client, and the channels, could be asked.
    """
    if not missing:
        return
    reasons: dict[str, list[str]] = {}
    for package, why in missing.items():
        reasons.setdefault(why, []).append(f"{label(package)} ({package.url or 'no URL is recorded'})")
    told = "; ".join(f"{', '.join(names[:_SHOWN])}: {why}" for why, names in reasons.items())
    problem = f"no source has {'this package' if len(missing) == 1 else f'these {len(missing)} packages'}: {told}"
    advice = []
    if because is not None:
        problem += f"; and the client cannot give {'it' if len(missing) == 1 else 'them'}: {because.problem}"
        advice.append(because.advice)
    if asked_channel:
        advice.append(
            "Make the channel reachable from the node, with credentials of its own where it needs some "
            "(RATTLER_AUTH_FILE, or `pixi auth login` there)."
        )
    if not asked_client:
        advice.append("Or let the client provide what the channel does not have: transport='auto'.")
    raise LayerError(
        "install", problem, advice=" ".join(filter(None, advice)), packages=tuple(map(label, missing)),
        last_words=because.last_words if because is not None else "",
    )  # fmt: skip
