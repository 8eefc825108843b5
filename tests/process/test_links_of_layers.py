"""The .pth files of a layer do in a running process what they do in a new one."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ACTIVATE = """
import sys
from pathlib import Path
from dask_pkgsync.layers.layer import Layer
from dask_pkgsync.process.activation import activate
layer = Layer("x", Path(sys.argv[1]), False, ())
activate(layer, programs=False)
here = [entry for entry in sys.path if entry.startswith(sys.argv[1])]
print(" ".join(Path(entry).name for entry in here))
"""


def test_what_a_link_puts_in_front_of_the_layer_stays_there(tmp_path: Path) -> None:
    """As the modules that hide an installed package of the client; all other links come behind the layer."""
    site = tmp_path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for name in ("first", "last"):
        (site / name).mkdir(parents=True)
    (site / "a.pth").write_text("last\n")
    (site / "b.pth").write_text(
        "import sys, os; sys.path.insert(sys.path.index(sitedir), os.path.join(sitedir, 'first'))\n"
    )
    argv = [sys.executable, "-c", ACTIVATE, str(tmp_path)]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["first", "site-packages", "last"]
