"""``python -m dask_pkgsync.options``, in a checkout: generates the files that are made from the definitions."""

from __future__ import annotations

import sys
from pathlib import Path

from dask_pkgsync.options.documents import defaults_file, reference_file, schema_file

PACKAGE = Path(__file__).parents[1]


def made_files() -> dict[Path, str]:
    """Return the text of each file that is made from the definitions, by path."""
    reference = PACKAGE.parent / "docs" / "reference.md"
    return {
        PACKAGE / "pkgsync.yaml": defaults_file(),
        PACKAGE / "pkgsync-schema.yaml": schema_file(),
        reference: reference_file(reference.read_text(encoding="utf-8")),
    }


def main() -> None:
    """Write the files that differ from the definitions, and print their paths."""
    for path, text in made_files().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
