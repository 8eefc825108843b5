"""What nodes of another platform would get of an environment, looked up on the client, without a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.client.plugin import make_target
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.process.resolving import foresee

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.resolutions.resolution import Resolution
    from dask_pkgsync.options.keywords import Options


def foreseen(environment: Environment, platform: str, options: Options) -> Resolution:
    """Return what nodes of a platform would get of an environment, by the client's uv and indexes. Blocks.

    Parameters
    ----------
    environment : Environment
    platform : str
        For example ``linux-x86_64`` (`model.resolutions.foreseen`).
    options : dict
        Keywords of `Options`.

    Raises
    ------
    PolicyError
        If the platform is not known.
    LayerError
        If there is no uv here, or it fails.
    """
    return foresee(make_target(environment, options), platform, node_settings())
