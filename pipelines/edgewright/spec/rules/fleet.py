"""Rules of the fleet: groups name models that exist, and every group can have an effect."""

from __future__ import annotations

from collections.abc import Iterator

from edgewright.spec.fleet import Expiry, Fleet
from edgewright.spec.problem import did_you_mean
from edgewright.spec.rules import Context, Finding, repeated, rule

_SHORTEST_S = 1
_LONGEST_S = 10 * 365 * 86400
_SHORTEST_CERTIFICATE_S = 3600
_LONGEST_CERTIFICATE_S = 2 * 365 * 86400


@rule(Fleet, "groups")
def groups_have_their_own_names(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """Reports and rollouts speak of groups by name."""
    for index, first, name in repeated(group.name for group in fleet.groups):
        line = context.loaded.source.at(("groups", first)).line
        yield Finding(("groups", index, "name"), f"group '{name}' is already on line {line}")


@rule(Fleet, "groups")
def group_models_exist(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """Every model has its folder, and a group names it once."""
    for index, group in enumerate(fleet.groups):
        for place, slot in enumerate(group.models):
            if slot.model not in context.draft.models:
                message = f"there is no model '{slot.model}' (models/{slot.model}/model.yaml)"
                hint = did_you_mean(slot.model, context.draft.models, "models are")
                yield Finding(("groups", index, "models", place, "model"), message, hint)
        for place, _first, name in repeated(slot.model for slot in group.models):
            yield Finding(("groups", index, "models", place, "model"), f"'{name}' is here twice")


@rule(Fleet, "trust")
def metadata_lives_a_sensible_time(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """Metadata that is born expired helps nobody, and a lifetime beyond a decade is no lifetime."""
    for role in Expiry.model_fields:
        seconds = getattr(fleet.trust.expiry, role)
        if not _SHORTEST_S <= seconds <= _LONGEST_S:
            message = f"{role} metadata lives between a second and ten years"
            yield Finding(("trust", "expiry", role), message, "write 7d, for example")


@rule(Fleet, "devices")
def device_certificates_live_a_sensible_time(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """A certificate must outlive the way to its renewal, and one for years is what enrolment is meant to avoid."""
    for field, key in (("lifetime", "lifetime"), ("crl_lifetime", "crlLifetime")):
        if not _SHORTEST_CERTIFICATE_S <= getattr(fleet.devices, field) <= _LONGEST_CERTIFICATE_S:
            yield Finding(
                ("devices", key), "this lies between an hour and two years", "write 90d, for example"
            )


@rule(Fleet, "registry")
def a_client_certificate_has_its_key(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """One without the other is a mistake that would only show at the registry."""
    certificate, key = fleet.registry.client_certificate, fleet.registry.client_key
    if (certificate is None) != (key is None):
        there, missing = (
            ("clientCertificate", "clientKey") if key is None else ("clientKey", "clientCertificate")
        )
        yield Finding(("registry", there), f"{there} needs {missing}", f"add {missing}", value=False)
    elif key is not None and key.startswith("env:"):
        yield Finding(("registry", "clientKey"), "TLS reads this key from a file", "write file:PATH")


@rule(Fleet, "groups")
def groups_are_reachable(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """The first matching group decides a model, so a wider group above hides a narrower one below."""
    for index, group in enumerate(fleet.groups):
        wanted = group.selector.match_labels.items()
        for place, slot in enumerate(group.models):
            for above, earlier in enumerate(fleet.groups[:index]):
                wider = earlier.selector.match_labels.items() <= wanted
                if wider and slot.model in (other.model for other in earlier.models):
                    line = context.loaded.source.at(("groups", above)).line
                    message = f"never used: group '{earlier.name}' on line {line} already decides this model"
                    yield Finding(
                        ("groups", index, "models", place, "model"), message, "put narrower groups first"
                    )
                    break
