"""Role keys in a PKCS #11 token, with a real module: SoftHSM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright.errors import TrustError
from edgewright.trust.ceremony import sign
from edgewright.trust.publication import refresh
from edgewright.trust.rotation import rotate
from edgewright.trust.signers import KeyRing, import_token_key
from edgewright.trust.status import inspect
from unit.trust.fleet import DAY, Device, SmallFleet
from unit.trust.softhsm import PIN, SoftToken

PI = "raspberry-pi-4"


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    with pytest.MonkeyPatch.context() as patch:
        token = SoftToken(tmp_path_factory.mktemp("softhsm"), "release")
        patch.setenv("SOFTHSM2_CONF", str(token.config))
        patch.setenv("PYKCS11LIB", str(token.module))
        patch.setenv("HSM_PIN", PIN)
        for number in (1, 2):
            token.make_key(number)
        yield token


def trust(token: SoftToken, **more: Any) -> dict[str, Any]:
    keys = ({"name": "root-token", "uri": token.uri(1)}, "root-paper")
    return {"pin": "env:HSM_PIN", "roles": {"root": {"threshold": 2, "keys": keys}}, **more}


@pytest.fixture
def fleet(tmp_path: Path, token: SoftToken) -> SmallFleet:
    fleet = SmallFleet(tmp_path / "fleet", trust=trust(token))
    fetch(fleet)
    fleet.publish_all("1.0.0")
    return fleet


def fetch(fleet: SmallFleet) -> None:
    """Run `edgewright keys import` for every key of a token."""
    ring = KeyRing.of(fleet.workspace)
    for name, uri in ring.uris.items():
        import_token_key(name, uri, ring.folder, ring.pin)


def test_a_key_in_a_token_signs_root_and_the_tuf_client_accepts_it(fleet: SmallFleet, tmp_path: Path) -> None:
    fleet.release()
    assert not (fleet.keys / "root-token.key").exists()
    assert Device(fleet, tmp_path / "device").assignment()["release"] == "r1"


def test_an_online_role_can_live_in_a_token(tmp_path: Path, token: SoftToken) -> None:
    keys = ({"name": "clock", "uri": token.uri(2)},)
    fleet = SmallFleet(
        tmp_path / "fleet", trust={"pin": "env:HSM_PIN", "roles": {"timestamp": {"keys": keys}}}
    )
    fetch(fleet)
    fleet.publish_all("1.0.0")
    fleet.release()
    device = Device(fleet, tmp_path / "device")
    assert device.assignment()["release"] == "r1"
    refresh(fleet.workspace, now=fleet.now)
    assert device.assignment()["release"] == "r1"


def test_without_its_token_a_signature_is_waited_for(
    fleet: SmallFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as unplugged:
        unplugged.delenv("PYKCS11LIB")
        with pytest.raises(TrustError, match=r"root-token \(PYKCS11LIB names no PKCS #11 module\)"):
            fleet.release()
        (key,) = (key for key in inspect(fleet.workspace).roles[0].keys if key.name == "root-token")
        assert key.absence == "PYKCS11LIB names no PKCS #11 module"
    _, added = sign(fleet.workspace, now=fleet.now)
    assert added == {"root": ("root-token",)}
    assert fleet.release().is_new


def test_a_new_root_key_can_move_into_a_token(tmp_path: Path, token: SoftToken) -> None:
    fleet = SmallFleet(tmp_path / "fleet")
    fleet.publish_all("1.0.0")
    fleet.release()
    device = Device(fleet, tmp_path / "device")
    keys = ({"name": "root-token", "uri": token.uri(1)},)
    fleet.trust = {"pin": "env:HSM_PIN", "roles": {"root": {"keys": keys}}}
    fetch(fleet)
    rotate(fleet.workspace, ["root"], now=fleet.now)
    refresh(fleet.workspace, now=fleet.now)
    (fleet.keys / "root.key").unlink()
    fleet.now += 200 * DAY
    assert fleet.release().versions["root"] == 3, "the token renews root"
    assert device.assignment()["release"] == "r1"


def test_a_wrong_pin_is_one_sentence_without_the_pin(
    fleet: SmallFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSM_PIN", "9876")
    with pytest.raises(
        TrustError, match=r"the key root-token \(hsm:1\?label=release\) cannot sign"
    ) as caught:
        fleet.release()
    assert "9876" not in str(caught.value) + str(caught.value.hint)
    assert "trust.pin" in str(caught.value.hint)


def test_a_missing_pin_says_where_to_name_it(fleet: SmallFleet, token: SoftToken) -> None:
    fleet.trust = {key: value for key, value in trust(token).items() if key != "pin"}
    with pytest.raises(TrustError, match="asks for its PIN") as caught:
        fleet.release()
    assert "trust.pin: env:HSM_PIN" in str(caught.value.hint)


def test_another_key_in_the_token_than_the_one_named_is_noticed(fleet: SmallFleet, token: SoftToken) -> None:
    keys = ({"name": "root-token", "uri": token.uri(2)}, "root-paper")
    fleet.trust = {**trust(token), "roles": {"root": {"threshold": 2, "keys": keys}}}
    with pytest.raises(TrustError, match=r"is not the key in root-token\.pub"):
        fleet.release()
    with pytest.raises(TrustError, match="keys are never overwritten"):
        fetch(fleet)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("hsm:9?label=release", "cannot be read from hsm:9"),
        ("hsm:1?label=lost", "no token lost at"),
        ("hsm:one", "with a number as ID"),
        ("gcpkms:projects/p/locations/l", "with the tools of its service"),
    ],
)
def test_what_cannot_be_fetched_from_a_token_is_said(
    fleet: SmallFleet, token: SoftToken, uri: str, said: str
) -> None:
    with pytest.raises(TrustError, match=said):
        import_token_key("other", uri, fleet.keys, lambda: PIN)
    assert not (fleet.keys / "other.pub").exists()


def test_a_module_that_is_not_there_is_said(fleet: SmallFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYKCS11LIB", "/nowhere/module.so")
    assert KeyRing.of(fleet.workspace).absence("root-token") == (
        "PYKCS11LIB names /nowhere/module.so, which is not there"
    )
