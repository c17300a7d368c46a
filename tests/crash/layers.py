"""Artifacts whose model travels in another form than it has on the device.

>>> with_layer(made, ".tar+gzip", archive(made.files["model.onnx"]), {})     # doctest: +SKIP
"""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import Any

from edgewright_agent.contract import digest_of
from unit.agent.core.workbench import Made, make_artifact


def archive(data: bytes) -> bytes:
    """Return the archive that a compressed layer is."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo("model.onnx")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(made.getvalue(), mtime=0)


def with_layer(made: Made, form: str, blob: bytes, notes: dict[str, str]) -> Made:
    """Return an artifact whose model travels as another blob."""
    data = made.files["model.onnx"]

    def edit(document: dict[str, Any]) -> None:
        document["layers"][0] = {
            "mediaType": "application/vnd.cncf.model.weight.v1" + form,
            "digest": digest_of(blob),
            "size": len(blob),
            "annotations": {
                "org.opencontainers.image.title": "model.onnx",
                "org.cncf.model.filepath": "model.onnx",
                "dev.edgewright.file-digest": digest_of(data),
                "dev.edgewright.file-size": str(len(data)),
                **notes,
            },
        }

    whole = make_artifact(made.version, files=made.files, edit=edit)
    return Made(whole.body, {**made.files, "model.onnx": blob}, made.version)
