"""The checkpoint: a model's trained weights, from a file of known digest or from a short training run.

    checkpoint:                                   train:
      path: weights.safetensors                     entry: train:fit
      sha256: 9f86d0…                               seed: 0

Output: `weights.safetensors`, or `model.onnx` for a model without `network`, whose checkpoint is a whole ONNX model. A
file is copied byte for byte after its digest was checked; a training run writes the same bytes for the same weights.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgewright.build.entry import ModelCode
from edgewright.build.fetch import fetch
from edgewright.errors import BuildError
from edgewright.plan.job import Job, Result

FILE = "weights.safetensors"
MODEL_FILE = "model.onnx"


def run(job: Job) -> Result:
    """Write `weights.safetensors`, or `model.onnx`.

    Raises:
        BuildError: the file is missing, too large, not safetensors (not a sound ONNX model), has another digest, or
            does not fit the network; or the network or its training fails, or gives weights that are not finite.
        NetworkError: the address cannot be reached.
    """
    folder = job.root / "models" / job.model
    if job.spec.get("network") is None:
        return _whole_model(folder, job)
    code = ModelCode(folder)
    if job.spec.get("checkpoint") is not None:
        data, facts = from_file(folder, job.spec["checkpoint"], job.model, job.progress)
    elif job.spec.get("train") is not None:
        data, facts = _from_training(code, job)
    else:
        raise BuildError(
            f"{job.model} has neither a checkpoint nor a training run",
            hint="name one of `checkpoint` and `train` in its model.yaml",
        )
    network = restore(code, job.spec["network"], data)
    (job.out / FILE).write_bytes(data)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Result(
        {
            **facts,
            "parameters": parameters,
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    )


def _whole_model(folder: Path, job: Job) -> Result:
    from edgewright.build.onnx_file import opset_of, parse, weights_in

    if job.spec.get("checkpoint") is None:
        raise BuildError(
            f"{job.model} has neither a network nor an ONNX checkpoint",
            hint="name one of them in its model.yaml",
        )
    data, facts = from_file(folder, job.spec["checkpoint"], job.model, job.progress)
    model = parse(data, str(facts["source"]))
    (job.out / MODEL_FILE).write_bytes(data)
    return Result(
        {
            **facts,
            "parameters": weights_in(model),
            "opset": opset_of(model),
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    )


def restore(code: ModelCode, network: Mapping[str, Any], weights: bytes) -> Any:
    """Return the network that `network` (`{factory, arguments}`) names, with `weights` loaded, in evaluation
    mode.

    Raises:
        BuildError: `weights` is not safetensors, holds NaN or infinity, or does not fit the network.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from edgewright.build.torch_mode import repeatable

    try:
        tensors = load(weights)
    except SafetensorError as error:
        raise BuildError(f"the checkpoint is not a safetensors file: {error}") from error
    with repeatable(seed=0):
        module = make_network(code, network)
    expected = module.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is not in the network" for name in tensors if name not in expected]
    problems += [
        f"{name} is {list(tensors[name].shape)}, the network has {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if problems:
        shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        raise BuildError(
            f"the checkpoint does not fit {network['factory']}({_arguments(network)}): {shown}",
            hint="after a change to the network, make new weights: edgewright train MODEL --write",
        )
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise BuildError(f"the checkpoint holds NaN or infinity in {', '.join(broken[:4])}")
    module.load_state_dict(tensors)
    return module.eval()


def make_network(code: ModelCode, network: Mapping[str, Any]) -> Any:
    """Return the untrained network.

    Raises:
        BuildError: the factory fails or returns something else than a module.
    """
    import torch

    module = code.call(network["factory"], **network.get("arguments", {}))
    if not isinstance(module, torch.nn.Module):
        raise BuildError(f"{network['factory']} returned {type(module).__name__}; expected a torch.nn.Module")
    return module


def trained(code: ModelCode, network: Mapping[str, Any], train: Mapping[str, Any]) -> bytes:
    """Train a fresh network and return its weights as safetensors.

    Args:
        code: The model's folder.
        network: `{factory, arguments}`.
        train: `{entry, seed, arguments}`; the entry is called as `entry(network, seed, **arguments)`.

    Raises:
        BuildError: the network or the training run fails.
    """
    from safetensors.torch import save

    from edgewright.build.torch_mode import repeatable

    seed = int(train.get("seed", 0))
    with repeatable(seed):
        module = make_network(code, network)
        code.call(train["entry"], module, seed, **train.get("arguments", {}))
        # Clones: tensors that share memory (tied weights) are an error in safetensors.
        return bytes(
            save({name: tensor.detach().contiguous().clone() for name, tensor in module.state_dict().items()})
        )


def from_file(
    folder: Path, checkpoint: Mapping[str, Any], model: str, progress: Callable[[str], None]
) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes that `checkpoint` (`{path | uri, sha256}`) names, and `{"source": where they are}`.

    Raises:
        BuildError: there is no such file, it is too large, or has another digest.
        NetworkError: the address cannot be reached.
    """
    where = checkpoint.get("uri") or (folder / checkpoint["path"]).resolve().as_uri()
    shown = checkpoint.get("uri") or f"models/{model}/{checkpoint['path']}"
    progress(f"checkpoint {shown}")
    data = fetch(where, shown=shown)
    digest = hashlib.sha256(data).hexdigest()
    if digest != checkpoint["sha256"]:
        raise BuildError(
            f"{shown} has sha256 {digest}; model.yaml says {checkpoint['sha256']}",
            hint="if the new file is the one you mean, put its digest into model.yaml",
        )
    return data, {"source": shown}


def _from_training(code: ModelCode, job: Job) -> tuple[bytes, dict[str, Any]]:
    train = job.spec["train"]
    job.progress(f"training {job.model} with {train['entry']}, seed {train.get('seed', 0)}")
    started = time.perf_counter()
    data = trained(code, job.spec["network"], train)
    return data, {
        "source": f"trained by {train['entry']}",
        "training_seconds": round(time.perf_counter() - started, 1),
    }


def _arguments(network: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in network.get("arguments", {}).items())
