"""A calibration kit: one zip file of small nets, written by `edgewright calibrate --kit`, read here with bounds.

>>> with Kit(Path("kit.zip")) as kit:                              # doctest: +SKIP
...     kit.write(kit.nets[0], scratch / "net.onnx")
>>> kit.nets[0].name, kit.threads                                  # doctest: +SKIP
('cnn-000-fp32', 3)

Nothing is unpacked by the names in the file: entries are looked up by the names that `kit.json` gives, and written
where the caller says.
"""

from __future__ import annotations

import json
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright_agent.contract import (
    KIT_DOCUMENT,
    KIT_FOLDER,
    KIT_KIND,
    MAX_KIT_DOCUMENT_BYTES,
    MAX_KIT_NET_BYTES,
    MAX_KIT_NETS,
    digest_of,
    is_digest,
    is_name,
)
from edgewright_agent.errors import ConfigError
from edgewright_agent.versions import in_range

LEVELS = ("disabled", "basic", "extended", "all")
_CHUNK = 1 << 20
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others have errors and memory needs of their own
_MAX_DIMENSIONS = 8
_MAX_VALUES = 1 << 24


@dataclass(frozen=True)
class Net:
    """One net of a kit.

    Attributes:
        name: Unique in the kit.
        digest: Of its file.
        size_bytes: Of its file.
        inputs: Input name → shape; all are float32.
    """

    name: str
    digest: str
    size_bytes: int
    inputs: dict[str, tuple[int, ...]]


class Kit:
    """An open kit.

    Attributes:
        digest: Of `kit.json`, which names the digest of every net.
        nets: What is in it.
        versions: Range of ONNX Runtime versions it is for.
        threads: Of the class; latency is measured with one thread and with these.
        arena: Whether sessions use the memory arena.
        graph_optimization: One of LEVELS.
        hardware_class: The class that is calibrated.
        recipe: How the pipeline makes this kit again.
    """

    def __init__(self, path: Path) -> None:
        """Open a kit and check its description.

        Raises:
            ConfigError: `bad-kit`: it cannot be read, or is not a kit.
        """
        self._path = path
        try:
            # A named pipe would wait for ever, a device never end.
            if not stat.S_ISREG(path.stat().st_mode):
                raise ConfigError("bad-kit", f"{path} is not a regular file")
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            what = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ConfigError("bad-kit", f"{path} is not a whole calibration kit: {what}") from error
        try:
            body = self._read(KIT_DOCUMENT, MAX_KIT_DOCUMENT_BYTES)
            self.digest = digest_of(body)
            self._understand(json.loads(body))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self.close()
            what = f"{type(error).__name__}: {error}"
            raise ConfigError("bad-kit", f"{KIT_DOCUMENT} in {path} makes no sense: {what}") from error
        except ConfigError:
            self.close()
            raise

    def __enter__(self) -> Kit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def write(self, net: Net, target: Path) -> None:
        """Write one net's file to `target`.

        Raises:
            ConfigError: `bad-kit`: it is missing, damaged, or not the one the kit describes.
        """
        body = self._read(f"{KIT_FOLDER}/{net.name}.onnx", net.size_bytes)
        if digest_of(body) != net.digest:
            raise ConfigError("bad-kit", f"{net.name} in {self._path} is not the net the kit describes")
        target.write_bytes(body)

    def _understand(self, document: Any) -> None:
        if document["kind"] != KIT_KIND or document["version"] != 1:
            raise ValueError("not a kit this agent knows")
        runtime = document["runtime"]
        self.versions, self.arena = str(runtime["versions"]), bool(runtime["arena"])
        in_range("0", self.versions)  # a range that is none is told now, not after the engine's import
        self.threads = _whole(runtime["threads"], 1, 512)
        self.graph_optimization: str = runtime["graphOptimization"]
        if self.graph_optimization not in LEVELS:
            raise ValueError("graphOptimization")
        self.hardware_class: str = document["hardwareClass"]
        if not is_name(self.hardware_class):
            raise ValueError("hardwareClass")
        self.recipe: dict[str, Any] = dict(document["recipe"])
        entries = document["nets"]
        if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_KIT_NETS:
            raise ValueError(f"it must hold 1 to {MAX_KIT_NETS} nets")
        self.nets = tuple(_net(entry) for entry in entries)
        if len({net.name for net in self.nets}) != len(self.nets):
            raise ValueError("two nets have one name")

    def _read(self, name: str, limit: int) -> bytes:
        """Return one entry's content, which must be no longer than `limit`, whatever its header says."""
        try:
            entry = self._zip.getinfo(name)
            if entry.compress_type not in _PACKED:
                raise ConfigError("bad-kit", f"{name} in {self._path} is packed in a way that no kit is")
            with self._zip.open(entry) as stream:
                parts, size = [], 0
                while part := stream.read(_CHUNK):
                    size += len(part)
                    if size > limit:
                        raise ConfigError("bad-kit", f"{name} in {self._path} is longer than {limit} bytes")
                    parts.append(part)
        except KeyError as error:
            raise ConfigError("bad-kit", f"{self._path} is not a calibration kit: no {name}") from error
        except (
            OSError,
            EOFError,
            ValueError,  # a name that is not the UTF-8 it claims to be
            zipfile.BadZipFile,
            zlib.error,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise ConfigError("bad-kit", f"{name} in {self._path} is damaged: {error}") from error
        return b"".join(parts)


def _net(entry: Any) -> Net:
    if not is_name(entry["name"]) or not is_digest(entry["digest"]):
        raise ValueError("a net without a legal name and digest")
    inputs = {
        str(name): tuple(_whole(size, 1, _MAX_VALUES) for size in shape)
        for name, shape in dict(entry["inputs"]).items()
    }
    for shape in inputs.values():
        values = 1
        for size in shape:
            values *= size
        if len(shape) > _MAX_DIMENSIONS or values > _MAX_VALUES:
            raise ValueError(f"an input of {entry['name']} is too large")
    return Net(entry["name"], entry["digest"], _whole(entry["bytes"], 1, MAX_KIT_NET_BYTES), inputs)


def _whole(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{value!r} is not a whole number from {low} to {high}")
    return value
