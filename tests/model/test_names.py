"""Names and versions are spelled as packaging spells them, though packaging is rarely imported for it."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name, canonicalize_version

from dask_pkgsync.model.wire.names import canonical, canonical_version

NUMBERS = st.sampled_from(["0", "1", "10", "00", "01", "2024", "100"])
LABELS = st.sampled_from(["", "+abc", "+0012", "+12.0", "+1a.b-c", "+A", "+0", "+g1_2"])
SUFFIXES = st.sampled_from(["", "a1", "b0", "rc01", ".post0", ".post1.dev2", "-1", ".dev0", "a", ".alpha2", "c3", "x"])
VERSIONS = st.builds(
    lambda epoch, release, suffix, label: f"{epoch}{'.'.join(release)}{suffix}{label}",
    st.sampled_from(["", "0!", "1!", "v"]),
    st.lists(NUMBERS, min_size=1, max_size=4),
    SUFFIXES,
    LABELS,
)


@given(VERSIONS)
@example("1.0.0")
@example("0.0")
@example("1.10.0.post0")
def test_versions_are_spelled_as_packaging_spells_them(version: str) -> None:
    """The fingerprint of an environment does not depend on whether a version is usual."""
    assert canonical_version(version) == canonicalize_version(version)


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True))
def test_names_are_spelled_as_packaging_spells_them(name: str) -> None:
    """Names in canonical form (PEP 503) are those of all tools."""
    assert canonical(name) == canonicalize_name(name)
