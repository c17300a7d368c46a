"""The public instance: what sigstore-python carries of it, since tests reach no network."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from edgewright.errors import NetworkError
from edgewright.trust.instance import load_trust_config, trusted_root_document
from edgewright_agent.trust import keyless_child
from real import DEAD_PROXY

PUBLIC = "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that reaches nothing and has no cache of sigstore-python's."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, DEAD_PROXY)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


def test_without_network_the_public_instance_is_a_network_error_with_a_way_out(
    offline: None, tmp_path: Path
) -> None:
    with pytest.raises(NetworkError, match=r"sigstore\.dev cannot be fetched") as caught:
        load_trust_config("public-good", tmp_path)
    assert "keep one as a file" in str(caught.value.hint)


def test_the_public_trusted_root_is_one_that_devices_take() -> None:
    """The real keys and authorities of sigstore.dev, as sigstore-python was published with them."""
    store = resources.files("sigstore._store") / PUBLIC
    root = json.loads((store / "trusted_root.json").read_bytes())
    document = trusted_root_document(json.dumps({"trustedRoot": root, "signingConfig": {}}))
    problem, verifier = keyless_child._open(document)
    assert verifier is not None, problem


def test_the_public_instance_in_a_file_is_a_trust_configuration(tmp_path: Path) -> None:
    """What the hint says to keep: it opens as signing does."""
    from sigstore.models import ClientTrustConfig

    store = resources.files("sigstore._store") / PUBLIC
    config = {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": json.loads((store / "trusted_root.json").read_bytes()),
        "signingConfig": json.loads((store / "signing_config.v0.2.json").read_bytes()),
    }
    (tmp_path / "trust.json").write_text(json.dumps(config))
    opened = ClientTrustConfig.from_json(load_trust_config("trust.json", tmp_path))
    assert opened.signing_config.get_oidc_url() == "https://oauth2.sigstore.dev/auth"
