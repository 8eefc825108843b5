"""On schedulers and nodes: lets Dask log our errors as the sentences that they are, without its traceback.

Whoever has caused one reads it on the client; the log is the operator's, who looks for what is wrong with the cluster.
"""

from __future__ import annotations

import logging

from dask_pkgsync.core.errors import PkgsyncError, RestartNeededError

_LOGGERS = ("distributed.core", "distributed.nanny", "distributed.scheduler", "distributed.worker")
"""Which log the exceptions of plugins (distributed 2026.8.0)."""


def log_in_sentences() -> None:
    """Begin to; more calls change nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_in_a_sentence)


def _in_a_sentence(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RestartNeededError):
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        record.msg, record.args, record.exc_info = "This worker restarts for pkgsync: %s", (error,), None
    elif isinstance(error, PkgsyncError):
        record.msg, record.args, record.exc_info = "%s: %s", (record.getMessage(), error), None
    return True
