"""`trust.roles`: who signs which metadata, and what is refused with its place in the file."""

from __future__ import annotations

import pytest

from edgewright.spec.load import load_fleet
from edgewright.trust.roles import addresses, declared, purposes, setting
from unit.spec.conftest import Repository, only, problems_of

TRUST = """\
trust:
  roles:
    root: {threshold: 2, keys: [root-a, root-b, root-c]}
    artifacts: {keys: [line]}
    classes:
      board: {keys: [{name: board-line, uri: "hsm:2?label=line"}]}
"""


def test_roles_without_a_word_have_one_key_of_their_own_name(repository: Repository) -> None:
    trust = load_fleet(repository.root).fleet.trust
    for role in ("root", "targets", "rollout", "snapshot", "timestamp"):
        assert (declared(trust, role).threshold, declared(trust, role).names) == (1, (role,))
    assert declared(trust, "class-board").names == ("artifacts",)
    assert addresses(trust) == {}


def test_roles_can_have_several_keys_in_files_and_tokens(repository: Repository) -> None:
    repository.append("fleet.yaml", TRUST)
    trust = load_fleet(repository.root).fleet.trust
    assert (declared(trust, "root").threshold, declared(trust, "root").names) == (
        2,
        ("root-a", "root-b", "root-c"),
    )
    assert declared(trust, "class-board").names == ("board-line",)
    assert declared(trust, "class-other").names == ("line",)
    assert addresses(trust) == {"board-line": "hsm:2?label=line"}
    assert setting("class-board", trust) == "trust.roles.classes.board"
    assert setting("class-other", trust) == "trust.roles.artifacts"
    assert set(purposes(trust)) == {
        "signing", "root-a", "root-b", "root-c", "targets", "line", "board-line", "rollout", "snapshot", "timestamp",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("role", "said"),
    [
        (
            "root: {threshold: 2, keys: [a]}",
            "12:23: 2 signatures are asked of 1 keys; name more keys, or ask for fewer",
        ),
        ("root: {keys: [a, a]}", "12:22: key 'a' is here twice, and counts once"),
        ("timestamp: {keys: [root]}", "12:24: 'root' is a key of root, which signs nothing else"),
        ("timestamp: {keys: [signing]}", "12:24: 'signing' is the key of artifacts and signs no metadata"),
        ("classes: {bord: {keys: [a]}}", "12:21: there is no hardware class 'bord' (hardware/bord.yaml); "),
        ("root: {keys: []}", "12:"),
        ("root: {threshold: 0, keys: [a]}", "12:"),
        ("root: {keys: [{name: a, uri: 'file:/root.key'}]}", "12:"),
        ("root: {keys: [../a]}", "12:"),
    ],
)
def test_roles_that_cannot_be_are_refused_where_they_stand(
    repository: Repository, role: str, said: str
) -> None:
    repository.append("fleet.yaml", f"trust:\n  roles:\n    {role}\n")
    line = next(problem for problem in problems_of(repository) if problem.startswith("fleet.yaml:"))
    assert line.startswith(f"fleet.yaml:{said}")


def test_one_name_is_one_key(repository: Repository) -> None:
    online = "snapshot: {keys: [online]}\n    timestamp: {keys: [{name: online, uri: 'hsm:1'}]}\n"
    repository.append("fleet.yaml", f"trust:\n  roles:\n    {online}")
    assert "'online' has another address elsewhere in this file" in only(repository)
