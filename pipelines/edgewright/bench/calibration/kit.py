"""A calibration kit: the nets of a recipe in one file, for a device that measures them.

>>> kit = describe("raspberry-pi-4", sheet, Recipe(), list(make(Recipe())))     # doctest: +SKIP
>>> write(kit, Path("kit.zip"))                                                 # doctest: +SKIP

`kit.json` names the digest of every net, so its own digest is that of the whole kit; how the zip file packs them is not
part of it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.bench.calibration.nets import Net, Recipe
from edgewright.errors import EnvironmentFault
from edgewright.spec.hardware import Sheet
from edgewright_agent.contract import KIT_DOCUMENT, KIT_FOLDER, KIT_KIND, canonical_json, digest_of

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file can name


@dataclass(frozen=True)
class Kit:
    """Nets and how to run them.

    Attributes:
        document: What `kit.json` says.
        nets: In the document's order.
    """

    document: dict[str, Any]
    nets: tuple[Net, ...]

    @property
    def digest(self) -> str:
        """Of the whole kit."""
        return digest_of(canonical_json(self.document))


def describe(hardware_class: str, sheet: Sheet, recipe: Recipe, nets: Sequence[Net]) -> Kit:
    """Return the kit of a class.

    Args:
        hardware_class: Name of the class.
        sheet: The class, whose session settings the nets are run with.
        recipe: What the nets were made from.
        nets: The nets.
    """
    runtime = sheet.runtime
    document = {
        "kind": KIT_KIND,
        "version": 1,
        "hardwareClass": hardware_class,
        "recipe": recipe.to_json(),
        "runtime": {
            "versions": runtime.versions,
            "threads": runtime.threads,
            "arena": runtime.arena,
            "graphOptimization": runtime.graph_optimization,
        },
        "nets": [
            {
                "name": net.name,
                "digest": digest_of(net.model),
                "bytes": len(net.model),
                "inputs": {"x": [1, *net.shape]},
            }
            for net in nets
        ],
    }
    return Kit(document, tuple(nets))


def write(kit: Kit, target: Path) -> None:
    """Write a kit to a file.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    try:
        with zipfile.ZipFile(target, "w") as file:
            _add(file, KIT_DOCUMENT, canonical_json(kit.document))
            for net in kit.nets:
                _add(file, f"{KIT_FOLDER}/{net.name}.onnx", net.model)
    except OSError as error:
        raise EnvironmentFault(f"cannot write {target}: {error.strerror or error}") from error


def _add(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    entry.create_system = 3  # Unix, wherever it is written
    file.writestr(entry, data)
