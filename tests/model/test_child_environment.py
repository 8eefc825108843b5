"""Programs that we start are led nowhere else by this process's environment variables."""

from __future__ import annotations

import pytest

from dask_pkgsync.model.child_environment import child_environment


@pytest.mark.parametrize(
    "name",
    [
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
        *("GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_TRACE", "GIT_TRACE2_EVENT", "GIT_CONFIG"),
        *("GIT_CONFIG_PARAMETERS", "GIT_TEMPLATE_DIR", "GIT_QUARANTINE_PATH", "GIT_LITERAL_PATHSPECS", "GIT_NEW"),
        *("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV", "CONDA_PREFIX"),
    ],
)
def test_variables_that_lead_elsewhere_are_left_out(name: str) -> None:
    """No repository, environment or file of this process's; also of git's variables that are not known yet."""
    assert child_environment({name: "/elsewhere", "HOME": "/home"}) == {"HOME": "/home"}


@pytest.mark.parametrize(
    "name", ["PATH", "HTTPS_PROXY", "SSL_CERT_FILE", "GIT_SSL_CAINFO", "GIT_SSH_COMMAND", "GIT_CONFIG_KEY_0", "CC"]
)
def test_how_servers_are_reached_and_whom_to_trust_is_kept(name: str) -> None:
    """A program needs it to do the same as for the user."""
    assert child_environment({name: "kept"}) == {name: "kept"}
