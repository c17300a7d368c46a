"""Keeps secrets that were typed into a spec by mistake out of messages, logs and CI output.

>>> redact_line("    password: hunter2")
'    password: …'
>>> redact_line("    password: env:REGISTRY_PASSWORD  # the right way")
'    password: env:REGISTRY_PASSWORD  # the right way'
>>> redact_line("  url: https://bob:hunter2@registry.example/edge")
'  url: https://…@registry.example/edge'
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SENSITIVE = (
    r"[\w.-]*(?:pass(?![a-z])|passw|passphrase|passcode|pwd|secret|token|credential|user_?name|private_?key|api_?key)"
    r"[\w.-]*"
)
_KEY = re.compile(rf"""["']?\b{_SENSITIVE}["']?\s*:""", re.IGNORECASE)
_SENSITIVE_KEY = re.compile(_SENSITIVE, re.IGNORECASE)
_REFERENCE = re.compile(r"""\s*["']?(?:env:[A-Za-z_]\w*|file:[^\s,}"']+)["']?\s*(?=$|[,}#])""")
_USERINFO = re.compile(r"""(?<=://)[^\s"'@]+@""")
# Forms that are secrets wherever they stand: PEM bodies and the tokens of common services.
_TOKEN = re.compile(
    r"-----BEGIN.*|(?i:\b(?:token|password|secret|key|sig)=)[^\s&\"']+|\b(?:ghp|gho|ghs|ghu|glpat|github_pat|dckr_pat|xox[abp])[_-][\w-]{8,}|\bAKIA[0-9A-Z]{12,}"
    r"|\beyJ[\w-]{8,}\.[\w.-]+|(?<![\w+/])(?![0-9a-f]{64}\b)[A-Za-z0-9+/]{60,}={0,2}$"
)
_BLOCK = re.compile(r":\s*(?:[|>][-+0-9]*)?\s*(?:#.*)?$")


def is_sensitive(key: object) -> bool:
    """Whether a key's value is likely to be a secret, or to be mistaken for the place of one."""
    return isinstance(key, str) and _SENSITIVE_KEY.fullmatch(key) is not None


def redact_text(text: str) -> str:
    """Return `text` without passwords in addresses, PEM bodies and well-known tokens."""
    return _TOKEN.sub("…", _USERINFO.sub("…@", text))


def redact_line(line: str, before: Sequence[str] = ()) -> str:
    """Return one source line fit to be shown.

    Args:
        line: The line.
        before: The lines above it, to notice that it continues a secret written over several lines.
    """
    for key in _KEY.finditer(line):
        rest = line[key.end() :]
        if not rest.strip() or rest.lstrip().startswith("#") or _REFERENCE.match(rest):
            continue
        if "credential" in key.group().lower() and rest.lstrip().startswith("{"):
            continue  # each key in the braces is judged by itself
        return redact_text(line[: key.end()]) + (" …" if rest[:1].isspace() else "…")
    indent = len(line) - len(line.lstrip())
    for above in reversed(before[-200:]):
        if above.strip() and len(above) - len(above.lstrip()) < indent:
            opened = _KEY.search(above)
            # Below `credentials:` each key is judged by itself; below `password:` everything is secret.
            own_keys = opened is not None and "credential" in opened.group().lower() and ":" in line
            if opened and _BLOCK.search(above) and not own_keys:
                return line[:indent] + "…"
            break
    return redact_text(line)
