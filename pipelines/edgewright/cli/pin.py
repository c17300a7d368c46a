"""The pin of a variant in `model.yaml`: the file's name and digest, put in without touching anything else.

>>> print(pinned("optimization:\\n  variants:\\n    - name: small # half\\n", 0, "small.onnx", "9f86d0"))
optimization:
  variants:
    - name: small # half
      checkpoint:
        path: small.onnx
        sha256: "9f86d0"
"""

from __future__ import annotations

from typing import Any

import yaml

from edgewright.errors import SpecError


def pinned(text: str, index: int, path: str, sha256: str) -> str:
    """Return the YAML with the digest of variant `index` set; a checkpoint it lacks is added.

    Comments and layout are the author's. The result is read again and compared: it says what the old text said,
    and the pin.

    Raises:
        SpecError: the layout is one this cannot extend; shows the lines to write by hand.
    """
    item = _value(_value(yaml.compose(text), "optimization"), "variants").value[index]
    checkpoint = _value(item, "checkpoint")
    if checkpoint is not None:
        digest = _value(checkpoint, "sha256")
        result = f'{text[: digest.start_mark.index]}"{sha256}"{text[digest.end_mark.index :]}'
    elif item.flow_style:
        end = len(text[: item.end_mark.index - 1].rstrip().removesuffix(","))
        result = (
            f'{text[:end]}, checkpoint: {{path: {path}, sha256: "{sha256}"}}{text[item.end_mark.index - 1 :]}'
        )
    else:
        result = _with_block(text, item, path, sha256)
    wanted = yaml.safe_load(text)
    variants = wanted["optimization"]["variants"]
    entry = variants[index]
    # A new mapping: an alias would change with what it stands for.
    variants[index] = {**entry, "checkpoint": {**entry.get("checkpoint", {"path": path}), "sha256": sha256}}
    try:
        same = yaml.safe_load(result) == wanted
    except yaml.YAMLError:
        same = False
    if not same:
        raise SpecError(
            f"the layout of variant {entry.get('name', index)!r} cannot be extended",
            hint=f'write below it: checkpoint: {{path: {path}, sha256: "{sha256}"}}',
        )
    return result


def _with_block(text: str, item: Any, path: str, sha256: str) -> str:
    end = text.find("\n", _end(item))
    before, after = (text + "\n", "") if end < 0 else (text[: end + 1], text[end + 1 :])
    newline = "\r\n" if before.endswith("\r\n") else "\n"
    indent = " " * item.value[0][0].start_mark.column
    lines = (f"{indent}checkpoint:", f"{indent}  path: {path}", f'{indent}  sha256: "{sha256}"')
    return before + "".join(line + newline for line in lines) + after


def _end(node: Any) -> int:
    """Return where the last scalar of a node ends; for PyYAML a block reaches to what follows its comments."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _value(node: Any, key: str) -> Any:
    if node is None:
        return None
    return next((value for name, value in node.value if name.value == key), None)
