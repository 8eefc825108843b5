"""`Option`: the definition of one option, from which keyword, flag, configuration, schema and reference are made."""

from __future__ import annotations

import enum
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from dask_pkgsync.options.kinds import Kind

T = TypeVar("T")


class Whose(enum.Enum):
    """Who sets an option, and where."""

    KEYWORD = "a user, by a keyword of sync and PackageSync or by the configuration of the client"
    CLIENT = "a user, by the configuration of the client only"
    SCHEDULER = "the operator of the scheduler, by the configuration of the scheduler"
    NODE = "the operator of a node, by the configuration of the node"


@dataclass(frozen=True)
class CommandFlag:
    """The flag of an option on the command line."""

    commands: tuple[str, ...]
    """Commands that have the flag, for example ``("sync", "check")``."""
    help: str = ""
    """The text of ``--help``; empty to use the option's description. A flag that may be given several times needs a
    text of its own, because each time it takes a single value."""
    metavar: str | None = None
    """The name of the value in ``--help``, for example ``NAME``."""
    no_help: str = ""
    """The text of ``--help`` for the flag ``--no-…``, for an option that is a list or false."""


@dataclass(frozen=True, eq=False)
class Option(Generic[T]):
    """One option: its name, the kind of its values, who sets it, its meaning and its default.

    The texts are used in YAML comments, schema, docstrings and reference. Code in them stands between backticks.
    """

    key: str
    """Name in the configuration, for example ``install-timeout``."""
    kind: Kind[T]
    whose: Whose
    """Who sets the option, and where."""
    sentence: str
    """The meaning of the option, in one sentence."""
    more: str = ""
    """What else its user needs to know, for example the meaning of each value of a choice."""
    _: KW_ONLY
    default: object
    """The default as it is written in the configuration, for example ``600s``."""
    flag: CommandFlag | None = None
    """The flag on the command line, if there is one."""
    on_scheduler: str = ""
    """The meaning for the scheduler, if an option of the client is read on the scheduler too."""
    on_node: str = ""
    """The meaning for a node, if an option of the client is read on nodes too."""
    default_text: str = ""
    """The text for the default null in the reference, for example ``the user's cache directory``."""
    page: str = ""
    """Page with more about it, relative to ``docs``, for example ``local-code.md#loose-modules``."""
    is_secret: bool = False
    """Whether a value may contain a password; if so, messages do not show it."""

    @property
    def name(self) -> str:
        """Name of the keyword, for example ``install_timeout``."""
        return self.key.replace("-", "_")

    @property
    def variable(self) -> str:
        """Environment variable that sets it, for example ``DASK_PKGSYNC__INSTALL_TIMEOUT``."""
        return f"DASK_PKGSYNC__{self.name.upper()}"

    @property
    def description(self) -> str:
        """The sentence, followed by what else its user needs to know."""
        return " ".join(filter(None, (self.sentence, self.more)))
