"""Every option, once.

Keywords, flags of the command line, configuration, its checks, its schema and the tables of the reference come from
here. After a change run ``python -m dask_pkgsync.options``, which writes the files that are made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_pkgsync.options.definitions import node, person, scheduler
from dask_pkgsync.options.option import Option, Whose

if TYPE_CHECKING:
    from types import ModuleType


def _of(module: ModuleType) -> tuple[Option[Any], ...]:
    return tuple(value for value in vars(module).values() if isinstance(value, Option))


OPTIONS = (*_of(person), *_of(scheduler), *_of(node))
"""In the order in which these files have them, which is that of signatures and documentation."""
BY_KEY = {option.key: option for option in OPTIONS}
KEYWORDS = tuple(option for option in OPTIONS if option.whose is Whose.KEYWORD)
"""What `sync` and `PackageSync` take."""
