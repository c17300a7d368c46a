"""Rules of encrypted weights: whoever is to open them has a usable public key, and every class has somebody."""

from __future__ import annotations

from collections.abc import Iterator

from edgewright.spec.hardware import HardwareClass
from edgewright.spec.model import Model
from edgewright.spec.recipient import read_recipient
from edgewright.spec.rules import Context, Finding, rule

_HOW = "openssl pkey -in PRIVATE.key -pubout writes the public half"


@rule(HardwareClass, "encryption")
def recipients_are_public_keys(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """A key that cannot be used would stop a run; a private one must not be in a repository at all."""
    if hardware.encryption is None:
        return
    seen: dict[str, str] = {}
    for index, written in enumerate(hardware.encryption.recipients):
        place = ("encryption", "recipients", index)
        try:
            recipient = read_recipient(context.draft.root / written)
        except ValueError as error:
            yield Finding(place, f"{written} {error}", _HOW)
            continue
        if (first := seen.setdefault(recipient.sha256, written)) is not written:
            yield Finding(place, f"{written} holds the same key as {first}", "remove it")


@rule(Model, "encrypt", "classes")
def encrypted_models_have_recipients(model: Model, context: Context) -> Iterator[Finding]:
    """Without a recipient nobody could open the weights, and published in the clear they must not be."""
    if not model.encrypt:
        return
    drafts = context.draft.hardware
    built = drafts if model.classes is None else [name for name in model.classes if name in drafts]
    for name in built:
        if drafts[name].has("encryption") and drafts[name].document.encryption is None:
            message = f"nobody could open the weights: hardware/{name}.yaml names no recipients"
            hint = f"add encryption: {{recipients: [keys/{name}.pub]}} there, or leave the class out of 'classes'"
            yield Finding(("encrypt",), message, hint)
