"""What one key of the YAML means, in words: `kubectl explain` for these specs.

>>> print(explain("hardware.limits.latency.p95").render())
hardware.limits.latency.p95   duration, required
<BLANKLINE>
  95th percentile.
<BLANKLINE>
  for example  30ms, 1.5s
  units        us, ms, s
  in           hardware/*.yaml
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

from edgewright.errors import SpecError
from edgewright.spec.problem import nearest
from edgewright.spec.schema import FILES, KINDS, schema_of


@dataclass(frozen=True)
class Key:
    """One key of a mapping.

    Attributes:
        name: The key.
        kind: What its value is: `duration`, `list of mappings`, `one of gpu, npu, vpu`.
        required: Whether it must be written.
        default: What it is when it is not written; None when it then is absent.
        description: What it means.
    """

    name: str
    kind: str
    required: bool
    default: str | None
    description: str

    @property
    def short(self) -> str:
        """Kind and necessity on one line."""
        if self.required:
            return f"{self.kind}, required"
        return (
            f"{self.kind}, default {self.default}" if self.default is not None else f"{self.kind}, optional"
        )


@dataclass(frozen=True)
class Explanation:
    """Everything there is to say about one path.

    Attributes:
        path: The path as it was resolved.
        key: What stands there.
        facts: More facts: word → text.
        keys: Keys below, when it is a mapping (or a list of mappings).
    """

    path: str
    key: Key
    facts: dict[str, str]
    keys: tuple[Key, ...]

    def render(self, *, width: int = 100) -> str:
        """Return it as text of at most `width` columns where words allow."""
        lines = [f"{self.path}   {self.key.short}", ""]
        lines += textwrap.wrap(self.key.description, width, initial_indent="  ", subsequent_indent="  ")
        if self.keys:
            name_width = max(len(key.name) for key in self.keys)
            kind_width = min(44, max(len(key.short) for key in self.keys))
            lines.append("")
            for key in self.keys:
                first = textwrap.shorten(
                    key.description, max(24, width - name_width - kind_width - 6), placeholder=" …"
                )
                lines.append(f"  {key.name:<{name_width}}  {key.short:<{kind_width}}  {first}".rstrip())
        if self.facts:
            lines.append("")
            for word, text in self.facts.items():
                lines += textwrap.wrap(
                    text, width, initial_indent=f"  {word:<11}  ", subsequent_indent=" " * 15
                )
        return "\n".join(lines)


def explain(path: str) -> Explanation:
    """Explain a dotted path such as `hardware.limits.latency.p95`; list indices may be left out.

    Raises:
        SpecError: There is no such key; the hint names the nearest one.
    """
    steps = [
        step for step in path.replace("[", ".").replace("]", "").split(".") if step and not step.isdigit()
    ]
    kind = steps[0] if steps else ""
    if kind not in KINDS:
        _fail(kind, "", list(KINDS))
    root = schema_of(kind)
    node, required, walked = root, True, kind
    for step in steps[1:]:
        container = _mapping(_resolved(node, root), root)
        properties = container.get("properties", {})
        if step in properties:
            required, node = step in container.get("required", ()), properties[step]
        elif isinstance(container.get("additionalProperties"), dict) or container.get("patternProperties"):
            break  # a mapping with free keys: what holds for it holds for each of them
        else:
            _fail(step, walked, list(properties))
        walked += f".{step}"
    return _explanation(walked, node, root, required, FILES[kind])


def _fail(step: str, walked: str, known: list[str]) -> None:
    near = nearest(step, known)
    prefix = f"{walked}." if walked else ""
    hint = f"did you mean {prefix}{near}?" if near else None
    if not known:
        raise SpecError(f"{walked} has no keys below it", hint=f"try {walked}")
    what = (
        f"{walked} has no key {step[:60]!r}" if walked else f"there is no kind of spec called {step[:60]!r}"
    )
    raise SpecError(what, hint=hint or f"{'its keys' if walked else 'kinds'} are {', '.join(known)}")


def _explanation(
    path: str, node: dict[str, Any], root: dict[str, Any], required: bool, file: str
) -> Explanation:
    key = _key(path.rpartition(".")[2], node, root, required)
    resolved = _resolved(node, root)
    container = _mapping(resolved, root)
    below = tuple(
        _key(name, entry, root, name in container.get("required", ()))
        for name, entry in container.get("properties", {}).items()
    )
    return Explanation(path, key, {**_facts(resolved, root), "in": file}, below)


def _facts(node: dict[str, Any], root: dict[str, Any]) -> dict[str, str]:
    facts: dict[str, str] = {}
    item = _resolved(node.get("items", node), root)
    if "enum" in item:
        facts["one of"] = ", ".join(map(str, item["enum"]))
    if item.get("examples"):
        facts["for example"] = ", ".join(map(str, item["examples"]))
    if "x-units" in item:
        facts["units"] = ", ".join(item["x-units"])
    elif "patternErrorMessage" in item:
        facts["form"] = str(item["patternErrorMessage"]).removeprefix("must be ")
    bounds = [
        f"{word} {item[name]}"
        for name, word in (("minimum", "at least"), ("exclusiveMinimum", "more than"), ("maximum", "at most"))
        if name in item
    ]
    if bounds:
        facts["range"] = " and ".join(bounds)
    if node.get("minItems"):
        least = node["minItems"]
        facts["items"] = f"exactly {least}" if node.get("maxItems") == least else f"at least {least}"
    return facts


def _key(name: str, node: dict[str, Any], root: dict[str, Any], required: bool) -> Key:
    default = node.get("default")
    return Key(
        name, _kind(node, root), required, None if default is None else _shown(default), _text(node, root)
    )


def _text(node: dict[str, Any], root: dict[str, Any]) -> str:
    return str(node.get("description") or _resolved(node, root).get("description", ""))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        some = [*map(_shown, value[:3]), *(["…"] if len(value) > 3 else [])]
        return f"[{', '.join(some)}]"
    return str(value)


def _kind(node: dict[str, Any], root: dict[str, Any]) -> str:
    node = _resolved(node, root)
    if "const" in node:
        return f"always {_shown(node['const'])}"
    if "enum" in node:
        return "one of " + ", ".join(node["enum"]) if len(node["enum"]) <= 4 else "choice"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_kind(option, root) for option in node["anyOf"]))
    if node.get("type") == "array":
        item = _resolved(node.get("items", {}), root)
        return "list of choices" if "enum" in item else f"list of {_plural(_kind(item, root))}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    if "x-units" in node:
        return str(node["title"])
    return words.get(str(node.get("type")), "mapping" if node.get("type") == "object" else "any value")


def _plural(kind: str) -> str:
    return {"mapping": "mappings", "text": "texts", "number": "numbers", "whole number": "whole numbers"}.get(
        kind, kind
    )


def _mapping(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Return the mapping behind a node: itself, or the items of a list."""
    return _resolved(node["items"], root) if node.get("type") == "array" else node


def _resolved(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    return root["$defs"][reference.rpartition("/")[2]] if isinstance(reference, str) else node
