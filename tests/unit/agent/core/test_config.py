"""The configuration: strict, complete in its complaints, and portable with its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.clock import to_text
from edgewright_agent.config import MAX_INTERVAL_S, Budget, Identity, Mirror, load, parse
from edgewright_agent.errors import ConfigError
from edgewright_agent.poll import conditional
from edgewright_agent.record import Record, Seen
from edgewright_agent.transport.secret import Secret
from unit.agent.core.workbench import NOW

MINIMAL: dict[str, Any] = {
    "version": 1,
    "device": {"id": "pi-7", "class": "raspberry-pi-4"},
    "source": {"url": "https://registry.example/acme"},
    "trust": {"root": "root.json", "keys": ["a.pub", "b.pub"]},
}


def complaint(document: object) -> str:
    with pytest.raises(ConfigError) as refused:
        parse(document, base=Path("/etc/edgewright"))
    assert refused.value.code == "bad-config"
    assert refused.value.exit_code == 1
    return str(refused.value)


def test_the_smallest_configuration_has_sensible_defaults() -> None:
    config = parse(MINIMAL, base=Path("/etc/edgewright"))
    assert str(config.state) == "/var/lib/edgewright"
    assert (config.poll.interval_s, config.poll.jitter, config.poll.max_backoff_s) == (900, 0.2, 21600)
    assert config.reserve_bytes == 64 * 2**20
    assert config.budget == Budget()
    assert config.device.labels == {}


@pytest.mark.parametrize("key", ["intervalS", "maxBackoffS"])
def test_a_poll_lies_no_further_ahead_than_dates_go(key: str) -> None:
    told = complaint({**MINIMAL, "poll": {key: 1e12}})
    assert f"poll.{key} must be a number from 1 to 3.1536e+08" in told
    config = parse({**MINIMAL, "poll": {key: MAX_INTERVAL_S}}, base=Path("/etc/edgewright"))
    record = Record(seen=Seen("e", "f"), expires={"timestamp": to_text(NOW)}, scrubbed=to_text(NOW))
    assert conditional(record, "f", now=NOW, margin_s=config.poll.interval_s) is None


def test_a_full_configuration_is_read_whole() -> None:
    config = parse(
        {
            **MINIMAL,
            "device": {"id": "pi-7", "class": "raspberry-pi-4", "labels": {"site": "lab"}},
            "source": {
                "url": "https://r.example",
                "username": "file:user",
                "password": "credential:registry",
                "caFile": "ca.pem",
                "mirrors": [
                    "oci:usb",
                    {"url": "https://near.example/acme", "credentialHelper": "ecr-login"},
                ],
            },
            "state": "state",
            "poll": {"intervalS": 60, "jitter": 0, "maxBackoffS": 120},
            "reserveBytes": 0,
            "budget": {"loadMs": 10, "latencyMs": 1.5, "peakMemoryBytes": 1000},
        },
        base=Path("/etc/edgewright"),
    )
    assert config.state == Path("/etc/edgewright/state")
    assert config.origin.mirrors == (
        Mirror(
            "https://r.example",
            Secret("file", "/etc/edgewright/user"),
            Secret("credential", "registry"),
            ca_file=Path("/etc/edgewright/ca.pem"),
        ),
        Mirror("oci:/etc/edgewright/usb"),
        Mirror("https://near.example/acme", credential_helper="ecr-login"),
    )
    assert config.budget == Budget(10, 1.5, 1000)
    assert config.poll.interval_s == 60


def test_every_problem_is_named_at_once() -> None:
    text = complaint(
        {
            "version": 2,
            "device": {"id": "", "class": "Raspberry Pi", "labels": {"a": 1}, "colour": "red"},
            "source": {},
            "trust": {"root": 7, "keys": []},
            "poll": {"intervalS": True, "jitter": 2},
            "budget": {"latencyMs": "fast"},
            "sate": "/x",
        }
    )
    for what in (
        "version must be 1",
        "device.id",
        "device.class 'Raspberry Pi' must be lower-case",
        "device.labels must map strings to strings",
        "device.colour is unknown (known: class, id, labels)",
        "source.url is missing",
        "trust.root must be a non-empty string",
        "trust.keys",
        "poll.intervalS",
        "poll.jitter must be a number from 0 to 1",
        "budget.latencyMs",
        "sate is unknown",
    ):
        assert what in text


@pytest.mark.parametrize("document", [None, [], "x", {}])
def test_what_is_no_configuration_at_all_is_told(document: object) -> None:
    assert complaint(document)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    text = complaint({**MINIMAL, "source": {"url": "https://bob:s3cret@registry.example/acme"}})
    assert "source.url must not carry a password" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            {"password": "s3cret", "username": "env:U"},
            "source.password must say where the secret is: env:NAME",
        ),
        ({"password": "file:", "username": "env:U"}, "source.password must say where"),
        ({"password": "credential:../s3cret", "username": "env:U"}, "source.password must say where"),
        ({"username": "env:U"}, "source.username and password belong together"),
        (
            {"username": "env:U", "password": "env:P", "credentialHelper": "x"},
            "source.credentialHelper and password are two answers",
        ),
        ({"credentialHelper": "../x"}, "source.credentialHelper must be the NAME of a program"),
        ({"mirrors": "https://m"}, "source.mirrors must be a list of fewer than 8 URLs"),
        ({"mirrors": ["https://m"] * 8}, "source.mirrors must be a list of fewer than 8 URLs"),
        ({"mirrors": ["https://m", "https://m"]}, "source.mirrors names a URL twice"),
        ({"mirrors": [7]}, "source.mirrors[0]. must be an object"),
        ({"mirrors": [{"url": "https://m", "colour": "red"}]}, "source.mirrors[0].colour is unknown"),
        ({"mirrors": ["https://bob:s3cret@m"]}, "source.mirrors[0].url must not carry a password"),
    ],
)
def test_a_source_that_makes_no_sense_is_told_without_repeating_a_secret(
    source: dict[str, object], told: str
) -> None:
    text = complaint({**MINIMAL, "source": {"url": "https://registry.example/acme", **source}})
    assert told in text
    assert "s3cret" not in text


@pytest.mark.parametrize("login", [{"username": "env:U", "password": "env:P"}, {"credentialHelper": "x"}])
def test_a_log_in_needs_https_except_on_this_very_device(login: dict[str, str]) -> None:
    for url in ("http://registry.example/acme", "http://10.0.0.7:5000", "http://localhost.evil.example"):
        text = complaint({**MINIMAL, "source": {"url": url, **login}})
        assert "source.url must be https://, or the password could be read on the way" in text
        assert complaint({**MINIMAL, "source": {"url": "oci:x", "mirrors": [{"url": url, **login}]}})
        parse({**MINIMAL, "source": {"url": url}}, base=Path("/"))  # what is signed may travel in the open
    for url in (
        "https://registry.example",
        "http://127.0.0.1:5000",
        "http://localhost:5000",
        "http://[::1]:5000",
    ):
        parse({**MINIMAL, "source": {"url": url, **login}}, base=Path("/"))


def test_what_is_said_about_one_mirror_holds_for_it_alone() -> None:
    source = {
        "url": "https://r.example",
        "username": "env:U",
        "password": "env:P",
        "caFile": "ca.pem",
        "mirrors": ["https://near.example"],
    }
    first, second = parse({**MINIMAL, "source": source}, base=Path("/")).origin.mirrors
    assert first.password
    assert second == Mirror("https://near.example")


def test_other_mirrors_make_what_was_seen_worthless(tmp_path: Path) -> None:
    for name in ("root.json", "a.pub", "b.pub"):
        (tmp_path / name).write_text(name)
    made = [
        parse({**MINIMAL, "source": {"url": "https://r", "mirrors": mirrors}}, base=tmp_path).fingerprint()
        for mirrors in (["https://a"], ["https://b"], ["https://a", "https://b"], ["https://a"])
    ]
    assert len(set(made)) == 3
    assert made[0] == made[3]


def test_relative_sources_and_files_move_with_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text(json.dumps({**MINIMAL, "source": {"url": "oci:registry"}}))
    config = load(tmp_path / "agent.json")
    assert config.origin.url == f"oci:{tmp_path}/registry"
    assert config.trust.root == tmp_path / "root.json"


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*agent\.json: No such file"):
        load(tmp_path / "agent.json")
    (tmp_path / "agent.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        load(tmp_path / "agent.json")


def test_the_fingerprint_changes_with_whatever_decides_what_to_run(tmp_path: Path) -> None:
    for name in ("root.json", "a.pub", "b.pub"):
        (tmp_path / name).write_text(name)
    prints = {parse(MINIMAL, base=tmp_path).fingerprint()}
    for change in (
        {"device": {"id": "pi-8", "class": "raspberry-pi-4"}},
        {"device": {"id": "pi-7", "class": "jetson"}},
        {"device": {"id": "pi-7", "class": "raspberry-pi-4", "labels": {"a": "b"}}},
        {"source": {"url": "https://elsewhere.example"}},
        {"trust": {"root": "root.json", "keys": ["a.pub"]}},
    ):
        prints.add(parse({**MINIMAL, **change}, base=tmp_path).fingerprint())
    (tmp_path / "root.json").write_text("another")
    prints.add(parse(MINIMAL, base=tmp_path).fingerprint())
    assert len(prints) == 7
    assert parse({**MINIMAL, "reserveBytes": 5}, base=tmp_path).fingerprint() in prints


def test_a_pinned_identity_is_part_of_what_decides_and_keys_may_be_absent(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_text("root")
    pins = [
        None,
        {"issuer": "https://i", "identity": "a@b"},
        {"issuer": "https://i", "identityPattern": "a@.*"},
    ]
    documents = [
        {**MINIMAL, "trust": {"root": "root.json", **({"identities": [pin]} if pin else {})}} for pin in pins
    ]
    assert len({parse(document, base=tmp_path).fingerprint() for document in documents}) == 3


def test_a_missing_trust_anchor_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trust\.root: cannot read"):
        parse(MINIMAL, base=tmp_path).fingerprint()


def test_an_identity_is_read_whole_and_reaches_the_source() -> None:
    identity = {"key": "id/device.key", "certificate": "id/device.crt", "ca": "/etc/ca.pem"}
    source = {**MINIMAL["source"], "mirrors": ["https://near.example/acme"]}
    config = parse({**MINIMAL, "source": source, "identity": identity}, base=Path("/etc/edgewright"))
    assert config.identity == Identity(
        Path("/etc/edgewright/id/device.key"), Path("/etc/edgewright/id/device.crt"), Path("/etc/ca.pem")
    )
    assert [mirror.identity for mirror in config.origin.mirrors] == [config.identity] * 2
    assert parse(MINIMAL, base=Path("/")).identity is None


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        ({}, "identity.key is missing"),
        ({"key": "k"}, "identity.certificate is missing"),
        ({"key": "k", "certificate": "c", "password": "p"}, "identity.password is unknown"),
        ("k", "identity. must be an object"),
    ],
)
def test_half_an_identity_is_told(identity: object, told: str) -> None:
    assert told in complaint({**MINIMAL, "identity": identity})
