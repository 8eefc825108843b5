"""The logs of schedulers and nodes, which are for the operator.

Dask logs the errors of plugins with a traceback; ours become the sentences that they are. Whoever has caused one reads
it on the client.
"""

from __future__ import annotations

import logging

from dask_pkgsync.model.errors import PkgsyncError, RestartNeededError
from dask_pkgsync.node.dask_internals import plugin_loggers

logger = logging.getLogger("distributed.pkgsync")
"""Below Dask's own: of others it shows warnings alone, without a time."""


def log_in_sentences() -> None:
    """Begin to; more calls change nothing."""
    for one in plugin_loggers():
        one.addFilter(_in_a_sentence)


def _in_a_sentence(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RestartNeededError):
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        record.msg, record.args, record.exc_info = "This worker restarts for pkgsync: %s", (error,), None
    elif isinstance(error, PkgsyncError):
        record.msg, record.args, record.exc_info = "%s: %s", (record.getMessage(), error), None
    return True
