"""The options that a user sets: the keywords of `sync` and `PackageSync`, and keys of the client's configuration."""

from __future__ import annotations

from dask_pkgsync.model.policy import BUILDS as BUILD_CHOICES
from dask_pkgsync.model.relaunch import RELAUNCHES
from dask_pkgsync.model.target import ON_CONFLICT as ON_CONFLICTS
from dask_pkgsync.model.target import RESTARTS, TRANSPORTS
from dask_pkgsync.options import kinds
from dask_pkgsync.options.option import CommandFlag, Option, Whose

IGNORE = Option(
    "ignore",
    kinds.STRINGS,
    Whose.KEYWORD,
    "Packages that are neither compared nor shipped, in any spelling of their names.",
    "Critical packages cannot be ignored.",
    default=[],
    flag=CommandFlag(
        ("compare", "sync", "check"),
        "Neither compare nor ship this package. May be given several times.",
        metavar="NAME",
    ),
)
ONLY = Option(
    "only",
    kinds.or_null(kinds.STRINGS),
    Whose.KEYWORD,
    "The only packages that are compared and shipped; critical packages are compared in any case. A name that is not "
    "installed is an error.",
    default=None,
    flag=CommandFlag(
        ("compare", "sync", "check"),
        "Compare and ship only this package. May be given several times.",
        metavar="NAME",
    ),
)
EXTRA = Option(
    "extra",
    kinds.STRINGS,
    Whose.KEYWORD,
    "Requirements (PEP 508, without URLs), and match specs of conda packages such as `conda-forge::cuda-nvcc=12.4`, "
    "that are installed on the cluster although the client lacks them.",
    default=[],
    flag=CommandFlag(
        ("compare", "sync", "check"),
        "Install this on the cluster too, although it is not installed here, for example 'cupy-cuda12x==13.*'.",
        metavar="REQUIREMENT",
    ),
)
LOCK_GROUPS = Option(
    "lock-groups",
    kinds.STRINGS,
    Whose.KEYWORD,
    "Dependency groups of a lock file that are read, in addition to the main one.",
    "By default: of uv.lock and pylock.toml their default groups, of poetry.lock all, of Pipfile.lock none.",
    default=[],
    flag=CommandFlag(
        ("sync", "check"), "Read this group of the lock file. May be given several times.", metavar="GROUP"
    ),
    on_scheduler="The same for the lock file that `pkgsync.target` names.",
    page="lock-files.md",
)
LOCK_EXTRAS = Option(
    "lock-extras",
    kinds.STRINGS,
    Whose.KEYWORD,
    "Extras of the locked project that are read as well.",
    default=[],
    flag=CommandFlag(
        ("sync", "check"), "Read this extra of the locked project. May be given several times.", metavar="EXTRA"
    ),
    on_scheduler="The same for the lock file that `pkgsync.target` names.",
    page="lock-files.md",
)
STRICT = Option(
    "strict",
    kinds.BOOLEAN,
    Whose.KEYWORD,
    "Whether only the client's packages are importable on the workers.",
    default=False,
    flag=CommandFlag(
        ("compare", "sync", "check"), "Make only the packages of this environment importable on the workers."
    ),
)
SCHEDULER = Option(
    "scheduler",
    kinds.choice(("warn", "refuse")),
    Whose.KEYWORD,
    "What happens if the scheduler has already imported another version of a package.",
    "`warn`: the report says so. `refuse`: the sync fails.",
    default="warn",
)
INSTALL_TIMEOUT = Option(
    "install-timeout",
    kinds.DURATION,
    Whose.KEYWORD,
    'Time that one run of an installer may take on a node: seconds, or a text such as `"10m"`.',
    default="600s",
)
TRANSPORT = Option(
    "transport",
    kinds.choice(TRANSPORTS),
    Whose.KEYWORD,
    "Where nodes get packages from.",
    "`index`: from the index; the client provides only local code. `client`: the client provides every package that "
    "nodes lack, and the index is not used. `auto`: from the index; the client provides local code and what the index "
    "lacks.",
    default="auto",
    flag=CommandFlag(
        ("sync",),
        "Where nodes get packages from: the index, this machine, or (auto) this machine only for what the index lacks.",
    ),
    page="local-code.md",
)
MODULES = Option(
    "modules",
    kinds.MODULES,
    Whose.KEYWORD,
    "Whether loose modules (those beside the script or notebook, on `PYTHONPATH`, and all others that this process has "
    "imported) are shipped, or a list of those that are: names of modules, and paths of modules, packages or "
    "directories.",
    default=True,
    flag=CommandFlag(
        ("scan", "sync", "check"),
        "Ship this loose module, package or directory. May be given several times. By default, all modules in the "
        "current directory and on PYTHONPATH are shipped.",
        metavar="NAME|PATH",
        no_help="Ship no loose modules.",
    ),
    page="local-code.md#loose-modules",
)
STORE = Option(
    "store",
    kinds.or_null(kinds.TEXT),
    Whose.KEYWORD,
    "URL, of any kind that fsspec knows, to which the client uploads wheels and from which every host fetches them; by "
    "default they are sent through the scheduler.",
    default=None,
    is_secret=True,
)
ON_CONFLICT = Option(
    "on-conflict",
    kinds.choice(ON_CONFLICTS),
    Whose.KEYWORD,
    "What happens if this environment conflicts with that of another connected client.",
    "`refuse`: `ConflictError` is raised. `wait`: this client waits until the other one has disconnected. `replace`: "
    "this environment replaces the other one.",
    default="refuse",
    flag=CommandFlag(("sync",), "What happens if this environment conflicts with that of another connected client."),
    page="shared-clusters.md#several-clients",
)
LEVELS = Option(
    "levels",
    kinds.LEVELS,
    Whose.KEYWORD,
    "How closely packages have to match: a mapping of names, or patterns such as `*-stubs`, to `critical`, `exact`, "
    "`version` (any build), `compatible` or `ignore`.",
    "A name takes precedence over patterns; of several patterns the first one that fits decides.",
    default={},
    on_scheduler="A client that has another version of a package that is `critical` here than the cluster is refused.",
    page="shared-clusters.md#modes",
)
BUILDS = Option(
    "builds",
    kinds.choice(BUILD_CHOICES),
    Whose.KEYWORD,
    "What happens if a node has another build of a package: the same version, but files with other contents.",
    "`replace`: the node gets the client's build. `warn`: the node keeps its build, and the report says so. `ignore`: "
    "builds are not compared. The level `version` in `levels` ignores the builds of single packages.",
    default="replace",
    flag=CommandFlag(("compare", "sync", "check"), "What happens if a package is there in another build."),
    on_scheduler="In the mode `enforce`, `replace` also refuses clients with another build than the operator's.",
    page="same-bytes.md",
)
RESTART = Option(
    "restart",
    kinds.choice(RESTARTS),
    Whose.KEYWORD,
    "What happens to a worker that has to be restarted but cannot be drained: it holds results that no other worker "
    "can take, or runs tasks that do not end within `pkgsync.drain-timeout`.",
    "`drained`: it takes no more tasks, and is restarted when its tasks have ended and its results are no longer "
    "needed; until then report and status show it as `waiting`. `now`: it is restarted at once; its results are lost, "
    "and Dask computes again what it can.",
    default="drained",
    flag=CommandFlag(
        ("sync",),
        "What happens to workers that cannot be drained: they wait, or are restarted now and lose their results.",
    ),
    on_scheduler="For a release: workers that cannot be drained are restarted when their results are no longer needed "
    "(`drained`), or at once (`now`).",
    page="shared-clusters.md#nobodys-results-are-lost",
)
RELAUNCH = Option(
    "relaunch",
    kinds.choice(RELAUNCHES),
    Whose.KEYWORD,
    "What happens if the cluster runs another Python, or another version of a package that Dask needs in one version "
    "everywhere.",
    "`never`: the sync is refused. `idle`: all processes of the cluster are executed anew in an environment with this "
    "client's Python and Dask, unless anybody would lose something. `now`: in any case; the report says what was lost.",
    default="never",
    flag=CommandFlag(
        ("sync",),
        "What happens if the cluster runs another Python or Dask: the sync is refused, or the cluster is relaunched in "
        "this one's, if nobody loses anything by that (idle) or in any case (now).",
    ),
    page="relaunch.md",
)
KEEP = Option(
    "keep",
    kinds.BOOLEAN,
    Whose.KEYWORD,
    "Whether the cluster keeps the environment when its last client has disconnected, until a release or another sync; "
    "otherwise it is released after `pkgsync.release-after`.",
    "`dask pkgsync sync` always keeps it.",
    default=False,
)
ON_CONNECT = Option(
    "on-connect",
    kinds.choice(("sync", "present")),
    Whose.CLIENT,
    "What `Client(...)` does if `dask_pkgsync.preload` is in `distributed.client.preload`.",
    "`sync`: it syncs before it returns, or, if the cluster has let the same environment in before, before the first "
    "task. `present`: it only presents the client's environment in the handshake.",
    default="sync",
)
MODULES_LIMIT = Option(
    "modules-limit",
    kinds.SIZE,
    Whose.CLIENT,
    "Size of all loose modules together above which `sync` and `scan` raise an error.",
    default="50 MB",
)
PROJECTS_LIMIT = Option(
    "projects-limit",
    kinds.SIZE,
    Whose.CLIENT,
    "Size of the source of all editable projects together above which `sync` and `scan` raise an error.",
    default="500 MB",
)
BUILD_TIMEOUT = Option(
    "build-timeout",
    kinds.DURATION,
    Whose.CLIENT,
    "Time that the build of one local project may take.",
    default="600s",
)
INDEX_URL = Option(
    "index-url",
    kinds.or_null(kinds.TEXT),
    Whose.CLIENT,
    "URL of the main index.",
    "If this, `pkgsync.extra-index-urls`, `pkgsync.find-links` or `pkgsync.no-index` is set, the indexes in the "
    "configuration of uv and pip are not used.",
    default=None,
    on_node="URL of the main index for this node. It takes precedence over the indexes of clients, uv and pip.",
    is_secret=True,
)
EXTRA_INDEX_URLS = Option(
    "extra-index-urls",
    kinds.STRINGS,
    Whose.CLIENT,
    "URLs of additional indexes.",
    default=[],
    on_node="URLs of additional indexes for this node.",
    is_secret=True,
)
FIND_LINKS = Option(
    "find-links",
    kinds.STRINGS,
    Whose.CLIENT,
    "URLs of pages with links to wheels, or paths of directories of wheels.",
    default=[],
    on_node="URLs of pages with links to wheels, or paths of directories of wheels, for this node.",
    is_secret=True,
)
NO_INDEX = Option(
    "no-index",
    kinds.BOOLEAN,
    Whose.CLIENT,
    "Whether no index is used.",
    default=False,
    on_node="Whether this node uses no index.",
)
SEND_CREDENTIALS = Option(
    "send-credentials",
    kinds.BOOLEAN,
    Whose.CLIENT,
    "Whether indexes with credentials in their URLs are sent to the nodes, including the credentials.",
    default=False,
)
PLATFORM_SPECIFIC = Option(
    "platform-specific",
    kinds.STRINGS,
    Whose.CLIENT,
    "Packages that exist for one operating system only, in addition to those that dask-pkgsync knows, such as pywin32.",
    default=[],
)
