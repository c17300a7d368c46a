"""A hardware token in software: SoftHSM behind its PKCS #11 module, as a real token is.

>>> token = SoftToken(tmp_path, "release")        # doctest: +SKIP
>>> token.make_key(2)                             # doctest: +SKIP
>>> token.uri(2)                                  # doctest: +SKIP
'hsm:2?label=release'
"""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from real import NOTHING_MAY_BE_SKIPPED, require

PIN = "1234"
_PLACES = ("usr/lib/softhsm", "usr/lib/*/softhsm", "usr/local/lib/softhsm", "usr/lib64/softhsm")


def pkcs11_module() -> Path:
    """Return SoftHSM's PKCS #11 module, or skip the test saying how to get what is missing."""
    if importlib.util.find_spec("pkcs11") is None:
        reason = 'python-pkcs11 is not installed: pip install -e ".[dev]"'
        if NOTHING_MAY_BE_SKIPPED:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    program = require("softhsm2-util").resolve()
    prefix = program.parents[2]  # /usr/bin/softhsm2-util, wherever that tree was unpacked
    found = [path for place in _PLACES for path in sorted(prefix.glob(f"{place}/libsofthsm2.so"))]
    assert found, f"{program} is without its libsofthsm2.so"
    return found[0]


class SoftToken:
    """One token with its PIN. The module reads SOFTHSM2_CONF when it is first loaded, so a process has one folder."""

    def __init__(self, folder: Path, label: str) -> None:
        self.label = label
        self.module = pkcs11_module()
        self.config = folder / "softhsm2.conf"
        (folder / "tokens").mkdir(exist_ok=True)
        self.config.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
        subprocess.run(
            [
                require("softhsm2-util"), "--module", self.module, "--init-token", "--free", "--label", label,
                "--pin", PIN, "--so-pin", "5678",
            ],
            env={"SOFTHSM2_CONF": str(self.config)}, check=True, capture_output=True,
        )  # fmt: skip

    def uri(self, number: int) -> str:
        """Return a key's address, as fleet.yaml has it."""
        return f"hsm:{number}?label={self.label}"

    def make_key(self, number: int) -> None:
        """Make an ECDSA P-256 pair inside the token; its private half never leaves it."""
        import pkcs11
        from pkcs11.util.ec import encode_named_curve_parameters

        token = pkcs11.lib(str(self.module)).get_token(token_label=self.label)
        with token.open(user_pin=PIN, rw=True) as session:
            curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
            parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
            parameters.generate_keypair(store=True, id=bytes([number]), label=f"key {number}")
