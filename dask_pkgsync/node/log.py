"""The logs of schedulers, nannies and workers, which are for the operator.

Dask logs every error of a plugin with a traceback. Errors of dask-pkgsync are logged as their one sentence instead; the
user gets them on the client.
"""

from __future__ import annotations

import logging

from dask_pkgsync.model.errors import PkgsyncError, RestartNeededError
from dask_pkgsync.node.dask_internals import plugin_loggers

logger = logging.getLogger("distributed.pkgsync")
"""A child of Dask's logger ``distributed``, to use its level and format: others log only warnings, without a time."""


def log_in_sentences() -> None:
    """Log the errors of dask-pkgsync as sentences from now on; more calls change nothing."""
    for plugin_logger in plugin_loggers():
        plugin_logger.addFilter(_replace_traceback)


def _replace_traceback(record: logging.LogRecord) -> bool:
    """Put the sentence of one of our errors in place of its traceback; let every record pass."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RestartNeededError):
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        record.msg, record.args, record.exc_info = "This worker restarts for pkgsync: %s", (error,), None
    elif isinstance(error, PkgsyncError):
        record.msg, record.args, record.exc_info = "%s: %s", (record.getMessage(), error), None
    return True
