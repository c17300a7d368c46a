"""One model's YAML alone, for verbs that mend what makes the whole fleet invalid: a missing or wrong pinned file.

>>> loaded = model_document(root, "digit-reader")
>>> pinned_path(root, "digit-reader", loaded.document.checkpoint, "weights.safetensors")
PosixPath('models/digit-reader/weights.safetensors')
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.errors import SpecError

if TYPE_CHECKING:
    from edgewright.spec.document import Loaded
    from edgewright.spec.model import Checkpoint, Model


def model_document(root: Path, model: str) -> Loaded[Model]:
    """Read one `model.yaml`, which must be valid in itself.

    Raises:
        SpecError: there is no such model, or its YAML is wrong.
    """
    from edgewright.spec.document import load_document
    from edgewright.spec.model import Model
    from edgewright.spec.problem import InvalidSpec

    file = root / "models" / model / "model.yaml"
    if not file.is_file():
        known = sorted(path.parent.name for path in root.glob("models/*/model.yaml"))
        raise SpecError(f"there is no model {model!r}", hint=f"models here: {', '.join(known) or 'none'}")
    loaded = load_document(Model, file, f"models/{model}/model.yaml", model)
    if loaded.problems:
        raise InvalidSpec(list(loaded.problems))
    return loaded


def pinned_path(root: Path, model: str, checkpoint: Checkpoint | None, name: str) -> Path:
    """Return where a new pinned file belongs: at the checkpoint's `path`, otherwise under `name` beside the YAML.

    Raises:
        SpecError: the path leaves the model's folder; nothing outside it is ever written.
    """
    folder = root / "models" / model
    written = (checkpoint.path if checkpoint is not None else None) or name
    target = folder / written
    if not target.resolve().is_relative_to(folder.resolve()):
        raise SpecError(
            f"models/{model}/model.yaml: checkpoint.path {written} leaves the model's folder",
            hint="put the file beside model.yaml",
        )
    return target
