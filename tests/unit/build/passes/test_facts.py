"""Facts of a class: which engines its devices may have."""

from __future__ import annotations

import pytest

from edgewright.build.passes.facts import ClassFacts


@pytest.mark.parametrize(
    ("versions", "older"),
    [
        (">=1.20", True),
        ("==1.20.*", True),
        (">=1.21.1,<1.23", True),
        ("==1.21.1", True),
        ("~=1.20.1", True),
        (">1.21.0,<2", True),
        (">=1.22,<2", False),
        (">=1.22.1", False),
        ("==1.22.0", False),
    ],
)
def test_a_range_of_versions_tells_whether_an_older_engine_is_allowed_patch_releases_too(
    versions: str, older: bool
) -> None:
    assert ClassFacts("amd64", (), ("int8",), versions=versions).runs_engine_before((1, 22)) is older
