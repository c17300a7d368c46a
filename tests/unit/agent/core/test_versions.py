"""Version ranges: what PEP 440 says, for the operators runtime manifests use."""

from __future__ import annotations

import pytest

from edgewright_agent.versions import in_range


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("1.31.1", "", True),
        ("1.31.1", ">=1.20,<2", True),
        ("1.20", ">=1.20.0", True),
        ("1.19.9", ">=1.20", False),
        ("2.0.0", ">=1.20,<2", False),
        ("2.0.0rc1", "<2", False),
        ("1.20.0rc1", ">=1.20", False),
        ("1.20.1rc1", ">=1.20", True),
        ("1.20.0+cu12", "==1.20", True),
        ("1.20.0.post1", "==1.20", True),
        ("1.20.3", "==1.20.*", True),
        ("1.2.3", "==1.20.*", False),
        ("1.21.0", "!=1.20.*", True),
        ("1.20.9", "~=1.20.1", True),
        ("1.21.0", "~=1.20.1", False),
        ("1.99", "~=1.20", True),
        ("1.10.0", ">1.9", True),
        ("1.9.0", "<=1.9,>1.8", True),
    ],
)
def test_a_range_takes_what_pep_440_says(version: str, specifier: str, expected: bool) -> None:
    assert in_range(version, specifier) is expected


@pytest.mark.parametrize(
    ("version", "specifier"),
    [("1.0", "1.0"), ("1.0", "=>1"), ("x", ">=1"), ("1.0", ">=1.*"), ("1.0", "~=1"), ("1.0", "==1.x.*")],
)
def test_what_is_not_understood_is_refused_not_guessed(version: str, specifier: str) -> None:
    with pytest.raises(ValueError, match=r"version|clause|release|wildcard|numbers"):
        in_range(version, specifier)


def test_it_agrees_with_packaging() -> None:
    from packaging.specifiers import SpecifierSet  # pytest itself needs it

    versions = ["1.0", "1.20", "1.20.1", "1.21.0", "1.31.1", "2.0", "2.0.1"]
    clauses = [
        op + v for op in ("==", "!=", ">=", "<=", ">", "<", "~=") for v in ("1.0", "1.20", "1.20.1", "2.0")
    ]
    for version in versions:
        for clause in clauses:
            assert in_range(version, clause) is SpecifierSet(clause).contains(version), (version, clause)
