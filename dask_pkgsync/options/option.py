"""`Option`: all that is to be said of one option, from which everything else that names it is made."""

from __future__ import annotations

import enum
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from dask_pkgsync.options.kinds import Kind

T = TypeVar("T")


class Whose(enum.Enum):
    """Who decides about an option, and where it is read."""

    KEYWORD = "a person, as a keyword of sync and PackageSync, or else by the configuration of the client"
    CLIENT = "a person, by the configuration of the client alone"
    SCHEDULER = "the operator of the scheduler"
    NODE = "the operator of a node"


@dataclass(frozen=True)
class CommandFlag:
    """An option on the command line."""

    commands: tuple[str, ...]
    """Commands that have it, for example ``("sync", "check")``."""
    help: str = ""
    """What ``--help`` says where the option's sentence does not fit: a flag that may be given several times takes one
    thing at a time, and whoever reads it is at "this machine"."""
    metavar: str | None = None
    """What its value is called there, for example ``NAME``."""
    no_help: str = ""
    """What ``--help`` says of the flag ``--no-…``, for an option that is a list or false."""


@dataclass(frozen=True, eq=False)
class Option(Generic[T]):
    """One option: what may be said, by whom, what it means, and what counts where nobody says anything.

    The texts stand in YAML comments, schema, docstrings and reference; what is code in them is between backticks.
    """

    key: str
    """Name in the configuration, for example ``install-timeout``."""
    kind: Kind[T]
    whose: Whose
    sentence: str
    """What it is, in one sentence."""
    more: str = ""
    """What else a person needs to know, for example what each value of a choice means."""
    _: KW_ONLY
    default: object
    """As it is configured, for example ``600s``."""
    flag: CommandFlag | None = None
    on_scheduler: str = ""
    """What it means for the scheduler, where it is read there as well."""
    on_node: str = ""
    """What it means for a node, where it is read there as well."""
    default_text: str = ""
    """What the reference calls the default where that is null, for example ``the user's cache directory``."""
    page: str = ""
    """Where the documentation has more, seen from the reference, for example ``local-code.md#loose-modules``."""
    is_secret: bool = False
    """Whether a value may hold a password, so that no message may repeat it."""

    @property
    def name(self) -> str:
        """Name as a keyword, for example ``install_timeout``."""
        return self.key.replace("-", "_")

    @property
    def variable(self) -> str:
        """Environment variable that sets it, for example ``DASK_PKGSYNC__INSTALL_TIMEOUT``."""
        return f"DASK_PKGSYNC__{self.name.upper()}"

    @property
    def description(self) -> str:
        """The sentence, and what else a person needs to know."""
        return " ".join(filter(None, (self.sentence, self.more)))
