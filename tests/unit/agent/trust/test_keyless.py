"""Who signed keyless: what a device accepts, and every way to be refused."""

from __future__ import annotations

import base64
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright_agent.contract import INTOTO_PAYLOAD, MAX_BUNDLE_BYTES, MAX_REFERRERS, MAX_TRUSTED_ROOT_BYTES
from edgewright_agent.errors import TrustError
from edgewright_agent.trust import keyless, keyless_child
from edgewright_agent.trust.keyless import Verified, verify_bundles
from edgewright_agent.trust.policy import IdentitySigner
from private_sigstore.instance import IDENTITY, PrivateSigstore

PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}'

Bundle = dict[str, Any]
Edit = Callable[[Bundle], object]


@pytest.fixture
def root(private_sigstore: PrivateSigstore) -> bytes:
    return json.dumps(private_sigstore.trusted_root()).encode()


@pytest.fixture(scope="session")
def bundle(private_sigstore: PrivateSigstore) -> Bundle:
    return private_sigstore.bundle(PAYLOAD)


def encode(bundle: Bundle) -> bytes:
    return json.dumps(bundle).encode()


def reason(answer: Verified | TrustError) -> str:
    assert isinstance(answer, TrustError), answer
    assert answer.code == "bad-signature"
    return str(answer)


def edited(bundle: Bundle, edit: Edit) -> bytes:
    changed = copy.deepcopy(bundle)
    edit(changed)
    return encode(changed)


def test_a_valid_bundle_tells_payload_issuer_and_identity(
    private_sigstore: PrivateSigstore, root: bytes, bundle: Bundle
) -> None:
    (found,) = verify_bundles([encode(bundle)], trusted_root=root)
    assert found == Verified(INTOTO_PAYLOAD, PAYLOAD, private_sigstore.issuer, IDENTITY)


def test_a_person_is_known_by_address(private_sigstore: PrivateSigstore, root: bytes) -> None:
    (found,) = verify_bundles(
        [encode(private_sigstore.bundle(PAYLOAD, "ada@acme.example"))], trusted_root=root
    )
    assert isinstance(found, Verified)
    assert found.identity == "ada@acme.example"


def test_the_payload_type_is_what_was_signed_whatever_it_is(
    private_sigstore: PrivateSigstore, root: bytes
) -> None:
    other = private_sigstore.bundle(PAYLOAD, payload_type="text/plain")
    (found,) = verify_bundles([encode(other)], trusted_root=root)
    assert isinstance(found, Verified)
    assert found.payload_type == "text/plain"


FAULTS = {
    "late": "not valid at validation time",
    "foreign-ca": "signature does not match",
    "no-sct": "does not contain a signed certificate timestamp",
    "forged-sct": "SCT verify failed",
    "forged-checkpoint": "checkpoint: invalid signature",
    "other-tree": "root hash",
    "wrong-proof": "inclusion proof contains invalid root hash",
    "other-entry": "transparency log entry is inconsistent",
}


def test_what_a_dishonest_instance_gives_is_refused_with_its_reason(
    private_sigstore: PrivateSigstore, root: bytes, bundle: Bundle
) -> None:
    """Expired certificate, another authority, no or a forged SCT, and four lies about the log; one child for all."""
    offered = []
    for fault in FAULTS:
        with private_sigstore.misbehaving(fault):
            offered.append(encode(private_sigstore.bundle(PAYLOAD)))
    *refused, good = verify_bundles([*offered, encode(bundle)], trusted_root=root)
    assert isinstance(good, Verified)
    for answer, expected in zip(refused, FAULTS.values(), strict=True):
        assert expected in reason(answer)


def material(bundle: Bundle) -> Any:
    return bundle["verificationMaterial"]


def swap_payload(bundle: Bundle) -> None:
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(PAYLOAD + b" ").decode()


EDITS: dict[str, tuple[Edit, str]] = {
    "tampered payload": (swap_payload, "invalid signature"),
    "another payload type": (
        lambda b: b["dsseEnvelope"].update(payloadType="text/plain"),
        "invalid signature",
    ),
    "no log entry": (lambda b: material(b).update(tlogEntries=[]), "exactly one entry"),
    "no list of log entries": (lambda b: material(b).pop("tlogEntries"), "exactly one entry"),
    "two log entries": (
        lambda b: material(b).update(tlogEntries=material(b)["tlogEntries"] * 2),
        "exactly one entry",
    ),
    "no inclusion proof": (
        lambda b: material(b)["tlogEntries"][0].pop("inclusionProof"),
        "inclusion",
    ),
    "no checkpoint": (
        lambda b: material(b)["tlogEntries"][0]["inclusionProof"].pop("checkpoint"),
        "checkpoint",
    ),
    "no verified time": (lambda b: material(b).pop("timestampVerificationData"), "timestamp"),
    "a time before the certificate": (
        lambda b: material(b)["tlogEntries"][0].update(integratedTime="1"),
        "",
    ),
    "a bare key": (
        lambda b: b.update(verificationMaterial={"publicKey": {"hint": "x"}}),
        "signed with a bare key",
    ),
    "a bundle of an older kind": (
        lambda b: b.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
        "not a Sigstore bundle v0.3",
    ),
    "no statement": (lambda b: b.pop("dsseEnvelope"), "no statement"),
    "no signature": (lambda b: b["dsseEnvelope"].update(signatures=[]), "signature"),
}


def test_an_edited_bundle_is_refused_with_its_reason(root: bytes, bundle: Bundle) -> None:
    edits = {name: edit for name, edit in EDITS.items() if name != "a time before the certificate"}
    answers = verify_bundles([edited(bundle, edit) for edit, _ in edits.values()], trusted_root=root)
    for name, answer, (_, expected) in zip(edits, answers, edits.values(), strict=True):
        assert expected in reason(answer), name


def test_a_time_that_nobody_signed_counts_for_nothing(root: bytes, bundle: Bundle) -> None:
    """`integratedTime` without the log's promise is a bare claim: alone no time, beside a timestamp no harm."""

    def claim(changed: Bundle) -> None:
        material(changed)["tlogEntries"][0]["integratedTime"] = "1"

    def claim_alone(changed: Bundle) -> None:
        claim(changed)
        material(changed).pop("timestampVerificationData")

    beside, alone = verify_bundles([edited(bundle, claim), edited(bundle, claim_alone)], trusted_root=root)
    assert isinstance(beside, Verified)
    assert "timestamp" in reason(alone)


def test_what_is_no_bundle_is_refused(root: bytes) -> None:
    junk = [b"", b"{", b"[]", b'{"a":1,"a":2}', b"[" * 100_000, b"\xff\xfe"]
    for answer in verify_bundles(junk, trusted_root=root):
        assert "the bundle is" in reason(answer) or "not a Sigstore bundle" in reason(answer)


def test_an_oversized_bundle_reaches_no_parser(root: bytes) -> None:
    (answer,) = verify_bundles(
        [b" " * (MAX_BUNDLE_BYTES + 1)], trusted_root=root, command=["/nowhere/never-started"]
    )
    assert f"more than {MAX_BUNDLE_BYTES} bytes" in reason(answer)


def test_more_bundles_than_referrers_are_not_checked(root: bytes) -> None:
    answers = verify_bundles([b"{}"] * (MAX_REFERRERS + 1), trusted_root=root)
    assert f"more than {MAX_REFERRERS} bundles" in reason(answers[-1])
    assert all("bundle v0.3" in reason(answer) for answer in answers[:-1])


def test_an_instance_of_somebody_else_is_not_believed(bundle: Bundle) -> None:
    with PrivateSigstore() as other:
        root = json.dumps(other.trusted_root()).encode()
    (answer,) = verify_bundles([encode(bundle)], trusted_root=root)
    assert "not enough sources of verified time" in reason(answer)


@pytest.mark.parametrize("root", [b"{}", b'{"tlogs":[],"tlogs":[]}', b" " * (MAX_TRUSTED_ROOT_BYTES + 1)])
def test_a_trusted_root_that_is_none_is_its_own_reason(root: bytes, bundle: Bundle) -> None:
    (answer,) = verify_bundles([encode(bundle)], trusted_root=root)
    assert isinstance(answer, TrustError)
    assert answer.code == "bad-trusted-root"


def test_without_sigstore_it_says_what_to_install(
    root: bytes, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyless, "find_spec", lambda name: None)
    (answer,) = verify_bundles([encode(bundle)], trusted_root=root)
    assert isinstance(answer, TrustError)
    assert answer.code == "keyless-missing"
    assert "edgewright-agent[keyless]" in str(answer)


def test_a_sigstore_that_does_not_load_says_so_too(root: bytes, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "sigstore.py").write_text("raise ImportError('no pydantic')")
    broken = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    command = [sys.executable, "-c", broken + "from edgewright_agent.trust.keyless_child import main; main()"]
    (answer,) = verify_bundles([encode(bundle)], trusted_root=root, command=command)
    assert isinstance(answer, TrustError)
    assert (answer.code, "no pydantic" in str(answer)) == ("keyless-missing", True)


# --- the child -------------------------------------------------------------------------------------------------------
DIES_AT_POISON = """
import base64, json, os, sys, time
from edgewright_agent.trust import keyless_child as child
check = child._check
def guarded(verifier, raw):
    if raw == b"kill": os.kill(os.getpid(), 9)
    if raw == b"hang": time.sleep(600)
    if raw == b"babble": print("x" * 100_000); sys.stdout.flush()
    return check(verifier, raw)
child._check = guarded
child.main()
"""


def test_a_bundle_that_ends_the_child_hides_no_other(root: bytes, bundle: Bundle) -> None:
    command = [sys.executable, "-c", DIES_AT_POISON]
    good = encode(bundle)
    answers = verify_bundles([b"kill", good, b"kill", b"babble", good], trusted_root=root, command=command)
    assert [isinstance(answer, Verified) for answer in answers] == [False, True, False, False, True]
    assert "ended with -9" in reason(answers[0])


def test_a_bundle_that_takes_all_the_time_hides_none_before_it(root: bytes) -> None:
    answers_once = """echo '{"payloadType":"t","payload":"","issuer":"i","identity":"n"}'; exec sleep 600"""
    answers = verify_bundles(
        [b"{}", b"{}", b"{}"], trusted_root=root, command=["/bin/sh", "-c", answers_once], timeout_s=1.0
    )
    assert answers[0] == Verified("t", b"", "i", "n")
    assert "not checked within 1 s" in reason(answers[1])
    assert "no time left" in reason(answers[2])


def test_a_child_that_never_stops_talking_is_not_listened_to(root: bytes) -> None:
    talks = "while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done"
    (answer,) = verify_bundles([b"{}"], trusted_root=root, command=["/bin/sh", "-c", talks])
    assert "wrote too much" in reason(answer)


def test_a_child_that_cannot_be_started_is_a_reason(root: bytes) -> None:
    (answer,) = verify_bundles([b"{}"], trusted_root=root, command=["/nowhere/python"])
    assert "cannot be started" in reason(answer)


def test_the_child_is_given_no_secret_of_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    given = keyless._environment(
        {"PATH": "/bin", "EDGEWRIGHT_PASSWORD": "hunter2", "HTTPS_PROXY": "http://x"}
    )
    assert "hunter2" not in given.values()
    assert not [name for name in given if "PROXY" in name]


def test_the_child_can_neither_connect_nor_look_up_nor_write(tmp_path: Path) -> None:
    program = f"""
import socket
from edgewright_agent.trust import keyless_child as child
child._confine()
def refused(act):
    try: act()
    except (child._Refused, OSError) as error: return type(error).__name__
print(refused(lambda: socket.create_connection(("127.0.0.1", 9))))
print(refused(lambda: socket.getaddrinfo("example.org", 443)))
print(refused(lambda: open({str(tmp_path / "written")!r}, "w").write("x" * 9999)))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["_Refused", "_Refused", "OSError"]


def test_the_child_needs_no_home_and_leaves_no_file(root: bytes, bundle: Bundle, tmp_path: Path) -> None:
    """sigstore-python's own TUF cache would be below HOME."""
    found = subprocess.run(
        list(keyless._COMMAND),
        input=json.dumps(
            {
                "trustedRoot": base64.b64encode(root).decode(),
                "bundles": [base64.b64encode(encode(bundle)).decode()],
            }
        ),
        env={
            **keyless._environment(os.environ),
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "payload" in found.stdout
    assert list(tmp_path.iterdir()) == []


# --- identities ------------------------------------------------------------------------------------------------------
def test_a_signer_is_the_whole_identity_of_its_issuer(
    private_sigstore: PrivateSigstore, root: bytes, bundle: Bundle
) -> None:
    (found,) = verify_bundles([encode(bundle)], trusted_root=root)
    assert isinstance(found, Verified)
    issuer = private_sigstore.issuer
    release = r"https://github\.com/acme/fleet/\.github/workflows/release\.yml@refs/heads/main"
    for signer, accepted in (
        (IdentitySigner("exact", issuer, identity=IDENTITY), True),
        (IdentitySigner("shorter", issuer, identity=IDENTITY[:-1]), False),
        (IdentitySigner("another-branch", issuer, identity=IDENTITY.replace("main", "next")), False),
        (IdentitySigner("another-issuer", "https://evil.example", identity=IDENTITY), False),
        (IdentitySigner("pattern", issuer, pattern=release), True),
        (IdentitySigner("pattern-of-another-issuer", "https://evil.example", pattern=release), False),
        (IdentitySigner("a-mere-prefix", issuer, pattern=r"https://github\.com/acme/fleet/"), False),
        (IdentitySigner("a-mere-suffix", issuer, pattern=r"release\.yml@refs/heads/main"), False),
    ):
        assert signer.accepts(found.issuer, found.identity) is accepted, signer.name


def paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of every value in a document."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in children for place in paths(child, (*path, key)))]


@settings(max_examples=150)
@given(data=st.data())
def test_whatever_stands_in_a_bundle_the_answer_is_what_was_signed_or_a_reason(
    data: st.DataObject, private_sigstore: PrivateSigstore, bundle: Bundle
) -> None:
    """One value of a valid bundle is replaced by anything JSON can hold; no error but the documented one escapes."""
    root = json.dumps(private_sigstore.trusted_root()).encode()
    problem, verifier = keyless_child._open(root)
    assert verifier is not None, problem
    changed = copy.deepcopy(bundle)
    place = data.draw(st.sampled_from(paths(changed)[1:]))
    parent: Any = changed
    for key in place[:-1]:
        parent = parent[key]
    scalars = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.binary().map(lambda raw: base64.b64encode(raw).decode())
    )
    parent[place[-1]] = data.draw(
        scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(), scalars, max_size=3)
    )
    answer = keyless_child._check(verifier, encode(changed))
    assert "refused" in answer or base64.b64decode(answer["payload"]) == PAYLOAD
