"""What a person decides: the keywords of `sync` and `PackageSync`, and what their configuration alone can say."""

from __future__ import annotations

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
        ("compare", "sync", "check"), "Leave this package alone. May be given several times.", metavar="NAME"
    ),
)
ONLY = Option(
    "only",
    kinds.or_null(kinds.STRINGS),
    Whose.KEYWORD,
    "If given, no other packages are shipped; critical ones are compared all the same.",
    default=None,
    flag=CommandFlag(
        ("compare", "sync", "check"), "Leave all but this package alone. May be given several times.", metavar="NAME"
    ),
)
EXTRA = Option(
    "extra",
    kinds.STRINGS,
    Whose.KEYWORD,
    "Requirements (PEP 508, without URLs) that are installed on the cluster though the client lacks them.",
    default=[],
    flag=CommandFlag(
        ("compare", "sync", "check"),
        "The cluster is to have this too, though it is not installed here: 'cupy-cuda12x==13.*'.",
        metavar="REQUIREMENT",
    ),
)
STRICT = Option(
    "strict",
    kinds.BOOLEAN,
    Whose.KEYWORD,
    "Nothing but the client's packages is importable on the workers.",
    default=False,
    flag=CommandFlag(("compare", "sync", "check"), "Nothing but the packages of this environment may be importable."),
)
SCHEDULER = Option(
    "scheduler",
    kinds.choice(("warn", "refuse")),
    Whose.KEYWORD,
    "What happens when the scheduler has already imported another version of something.",
    "`warn`: the report says so. `refuse`: the sync fails.",
    default="warn",
)
INSTALL_TIMEOUT = Option(
    "install-timeout",
    kinds.DURATION,
    Whose.KEYWORD,
    'Time that one installer may take on one node: seconds, or a text such as `"10m"`.',
    default="600s",
)
TRANSPORT = Option(
    "transport",
    kinds.choice(TRANSPORTS),
    Whose.KEYWORD,
    "Where nodes get packages from.",
    "`index`: from the index; only local code travels from the client. `client`: everything that they lack travels "
    "from the client, and nothing is fetched. `auto`: from the index, and from the client what the index does not "
    "give.",
    default="auto",
    flag=CommandFlag(
        ("sync",),
        "Where nodes get packages from: the index, this machine, or this machine what the index does not give.",
    ),
    page="local-code.md",
)
MODULES = Option(
    "modules",
    kinds.MODULES,
    Whose.KEYWORD,
    "Loose modules, those beside the script or notebook and on `PYTHONPATH`: whether they travel, or which (names of "
    "modules, paths of modules, packages or directories).",
    default=True,
    flag=CommandFlag(
        ("scan", "sync", "check"),
        "A loose module, package or directory that travels. May be given several times. Without it: what can be "
        "imported from the current directory and from PYTHONPATH.",
        metavar="NAME|PATH",
        no_help="No loose modules.",
    ),
    page="local-code.md#loose-modules",
)
STORE = Option(
    "store",
    kinds.or_null(kinds.TEXT),
    Whose.KEYWORD,
    "URL, of any kind that fsspec knows, where the client puts wheels and every host fetches them; by default they go "
    "through the scheduler.",
    default=None,
    is_secret=True,
)
ON_CONFLICT = Option(
    "on-conflict",
    kinds.choice(ON_CONFLICTS),
    Whose.KEYWORD,
    "What happens where another client, which is still connected, has set an environment that conflicts with this one.",
    "`refuse`: `ConflictError`. `wait`: this one waits until the other client has gone. `replace`: it takes its place.",
    default="refuse",
    flag=CommandFlag(("sync",), "Where the environment of somebody who is connected conflicts with this one."),
    page="shared-clusters.md#several-clients",
)
LEVELS = Option(
    "levels",
    kinds.LEVELS,
    Whose.KEYWORD,
    "How closely packages have to match: package, or pattern such as `*-stubs`, to `critical`, `exact`, `compatible` "
    "or `ignore`.",
    "Names come before patterns, and patterns count in their order.",
    default={},
    on_scheduler="Packages that are `critical` here keep clients out that have another version than the cluster.",
    page="shared-clusters.md#modes",
)
RESTART = Option(
    "restart",
    kinds.choice(RESTARTS),
    Whose.KEYWORD,
    "What happens to a worker that has to be restarted, and holds results that no other worker can take or runs tasks "
    "that do not end within `pkgsync.drain-timeout`.",
    "`drained`: it takes no more tasks, and is restarted when it has nothing any more; the report and the status say "
    "so. `now`: it is restarted all the same; what it holds is lost, and Dask computes again what it can.",
    default="drained",
    flag=CommandFlag(
        ("sync",),
        "What happens to workers that cannot be emptied: they wait, or are restarted and lose what they have.",
    ),
    on_scheduler="For a release: workers that could not be drained are restarted when they are free (`drained`), or at "
    "once (`now`).",
    page="shared-clusters.md#nobodys-results-are-lost",
)
KEEP = Option(
    "keep",
    kinds.BOOLEAN,
    Whose.KEYWORD,
    "Whether the cluster keeps the environment when its last client has gone, until a release or another sync; "
    "otherwise it is released after `pkgsync.release-after`.",
    "The command line keeps it always.",
    default=False,
)
ON_CONNECT = Option(
    "on-connect",
    kinds.choice(("sync", "present")),
    Whose.CLIENT,
    "What `Client(...)` does where `dask_pkgsync.preload` is in `distributed.client.preload`.",
    "`sync`: it syncs, and returns when the cluster matches. `present`: it only says what the client has.",
    default="sync",
)
MODULES_LIMIT = Option(
    "modules-limit",
    kinds.SIZE,
    Whose.CLIENT,
    "Size of all loose modules together, above which they are an error.",
    default="50 MB",
)
BUILD_TIMEOUT = Option(
    "build-timeout",
    kinds.DURATION,
    Whose.CLIENT,
    "Time for the build of one local project.",
    default="600s",
)
INDEX_URL = Option(
    "index-url",
    kinds.or_null(kinds.TEXT),
    Whose.CLIENT,
    "URL of the main index.",
    "Where this, `pkgsync.extra-index-urls`, `pkgsync.find-links` or `pkgsync.no-index` is set, what uv and pip are "
    "configured with does not count.",
    default=None,
    on_node="URL of the main index of this node: what its operator says comes before what clients, uv and pip say.",
    is_secret=True,
)
EXTRA_INDEX_URLS = Option(
    "extra-index-urls",
    kinds.STRINGS,
    Whose.CLIENT,
    "URLs of further indexes.",
    default=[],
    on_node="URLs of further indexes of this node.",
    is_secret=True,
)
FIND_LINKS = Option(
    "find-links",
    kinds.STRINGS,
    Whose.CLIENT,
    "URLs of pages with links to wheels, or directories of wheels.",
    default=[],
    on_node="URLs of pages, or directories of wheels, that this node can reach.",
    is_secret=True,
)
NO_INDEX = Option(
    "no-index",
    kinds.BOOLEAN,
    Whose.CLIENT,
    "Whether no index is looked at.",
    default=False,
    on_node="Whether this node looks at no index.",
)
SEND_CREDENTIALS = Option(
    "send-credentials",
    kinds.BOOLEAN,
    Whose.CLIENT,
    "Whether indexes whose URL holds credentials are told to the nodes, with the credentials.",
    default=False,
)
PLATFORM_SPECIFIC = Option(
    "platform-specific",
    kinds.STRINGS,
    Whose.CLIENT,
    "More packages that exist for one operating system only, as pywin32 and appnope do, which are known.",
    default=[],
)
