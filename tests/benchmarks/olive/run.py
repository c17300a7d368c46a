"""Let Olive optimize one model; runs inside Olive's environment and imports nothing of this repository.

$ python run.py request.json result.json

Request and result are those of `benchmarks.peers`. The result also says what Olive measured of every model it made.

The search space is what somebody who knows both Olive and this processor would write: every family of passes that
applies to the model on a CPU, with the values that can win there, and without those that never do (S8S8, which is
Olive's default and slower than fp32 on x86; all operators in dynamic quantization, several times slower on
convolutions). Olive's search then tries every point: left to a sampler it may miss the best, and the space is small.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

USER_SCRIPT = str(Path(__file__).with_name("user_script.py"))
SESSION = {"session_options": {"intra_op_num_threads": 1, "inter_op_num_threads": 1}}
MATRICES = ["MatMul", "Gemm", "Gather"]


def main(request_path: str, result_path: str) -> None:
    request = json.loads(Path(request_path).read_text())
    work = Path(request["work"])
    if request["metric"] == "cosine":
        request["selection"] = with_reference_outputs(request["model"], request["selection"], work)
    from olive.workflows import run

    repair()
    output = run(workflow(request, work))
    result = {**chosen(output, work), **seconds(request["started"])}
    result["evaluated"] = evaluated(work / "output" / "footprint.json", request["metric"])
    Path(result_path).write_text(json.dumps(result, indent=1))


def repair() -> None:
    """Let the search go on when two of its points share their first pass.

    Olive 0.13.0 then updates what it recorded of that pass, by a name that the field lost (`model_config`, which
    pydantic keeps for itself); every later point fails, and the process ends with exit code 0.
    """
    from olive.engine.footprint import FootprintNode

    def update(self: FootprintNode, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, {"model_config": "model_config_data"}.get(name, name), value)

    FootprintNode.update = update


def workflow(request: dict[str, Any], work: Path) -> dict[str, Any]:
    """Return Olive's configuration."""
    passes: dict[str, Any] = {}
    if request["transformer"]:
        passes["fuse"] = {
            "type": "OrtTransformersOptimization",
            "model_type": "bert",
            **request["transformer"],
        }
    passes["quantize"] = quantizations(request)
    return {
        "input_model": {
            "type": "ONNXModel",
            "model_path": request["model"],
            "inference_settings": SESSION,
        },
        "systems": {
            "host": {
                "type": "LocalSystem",
                "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
            }
        },
        "host": "host",
        "target": "host",
        "data_configs": [
            data("calibration", request["calibration"], batch=1),
            data("selection", request["selection"], batch=64, highest=request["metric"] == "accuracy"),
            data("one", request["selection"], batch=1),
        ],
        "evaluators": {"evaluator": {"metrics": metrics(request)}},
        "evaluator": "evaluator",
        "passes": passes,
        "search_strategy": {"execution_order": "joint", "sampler": "sequential"},
        "evaluate_input_model": True,
        "cache_dir": str(work / "cache"),
        "output_dir": str(work / "output"),
        "log_severity_level": request.get("log", 2),
    }


def quantizations(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the alternatives that change something in this model; a list of values is searched."""
    operators = {node.op_type for node in onnx.load(request["model"]).graph.node}
    eight_bit = {
        "precision": ["int8", "uint8"],
        "per_channel": True,
        "reduce_range": not has_vnni(),
        "quant_preprocess": True,
    }
    found: list[dict[str, Any]] = [
        {
            "type": "OnnxStaticQuantization",
            "data_config": "calibration",
            "activation_type": "uint8",
            "quant_format": "QDQ",
            "calibrate_method": ["MinMax", "Percentile"],
            # True quantizes every operator there is and ignores `reduce_range`.
            "prepare_qdq_config": False,
            **eight_bit,
        },
        {"type": "OnnxFloatToFloat16", "keep_io_types": True},
    ]
    if operators & set(MATRICES):
        found.append({"type": "OnnxDynamicQuantization", "op_types_to_quantize": MATRICES, **eight_bit})
    if operators & {"MatMul", "Gather"}:
        # One pass for each width: Olive has no values to search for this parameter.
        found += [
            {"type": "OnnxBlockWiseRtnQuantization", "bits": bits, "block_size": 32, "accuracy_level": 4}
            for bits in (8, 4)
        ]
    return found


def metrics(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is measured: Olive sorts what meets all goals by priority, so the objective comes first.

    It knows no balance: `balanced` is latency first among what is also smaller. Nor does it measure memory: size then.
    """
    from user_script import METRICS  # registers them too

    objective = request["objective"]
    faster = objective in ("latency", "balanced")
    improved = {"goal": {"type": "percent-min-improvement", "value": 3}}
    latency = {
        "name": "latency",
        "type": "latency",
        "data_config": "one",
        "sub_types": [
            {
                "name": "p50",
                "priority": 1 if faster else 3,
                "metric_config": {"warmup_num": 10, "repeat_test_num": repeats(request)},
                **(improved if faster else {}),
            }
        ],
    }
    size = {
        "name": "size",
        "type": "size_on_disk",
        "sub_types": [
            {
                "name": "bytes",
                "priority": 3 if faster else 1,
                **(improved if objective != "latency" else {}),
            }
        ],
    }
    config = {}
    if request["metric"] == "accuracy":
        config = {"task": "multiclass", "num_classes": request["classes"]}
    quality = {
        "name": "quality",
        "type": "accuracy",
        "data_config": "selection",
        "sub_types": [
            {
                "name": METRICS[request["metric"]],
                "priority": 2,
                "higher_is_better": True,
                "metric_config": config,
                "goal": {"type": "max-degradation", "value": request["max_drop"]},
            }
        ],
    }
    return [latency, quality, size]


def data(name: str, path: str, *, batch: int, highest: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "user_script": USER_SCRIPT,
        "load_dataset_config": {"type": "rows", "params": {"path": path}},
        **({"post_process_data_config": {"type": "highest"}} if highest else {}),
        "dataloader_config": {"type": "default_dataloader", "params": {"batch_size": batch}},
    }


def with_reference_outputs(model: str, selection: str, work: Path) -> str:
    """Write the samples with the fp32 model's outputs as targets, and return the new file."""
    arrays, inputs = stored(selection)
    session = opened(model)
    parts = [
        session.run(None, {name: array[row : row + 64] for name, array in inputs.items()})[0]
        for row in range(0, len(arrays["targets"]), 64)
    ]
    arrays["targets"] = np.concatenate(parts)
    path = work / "selection-with-outputs.npz"
    np.savez(path, **arrays)
    return str(path)


def repeats(request: dict[str, Any]) -> int:
    """Return how many inferences take half a second: enough for a median that noise does not choose by."""
    session, inputs = opened(request["model"]), stored(request["selection"])[1]
    sample = {name: array[:1] for name, array in inputs.items()}
    for _ in range(10):
        session.run(None, sample)
    started = time.perf_counter()
    for _ in range(10):
        session.run(None, sample)
    return min(5000, max(20, int(0.5 / ((time.perf_counter() - started) / 10))))


def opened(model: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options)


def stored(path: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return all arrays of a file, and those that are inputs."""
    with np.load(path) as file:
        arrays = dict(file)
    return arrays, {name.removeprefix("input:"): arrays[name] for name in arrays if name != "targets"}


def chosen(output: Any, work: Path) -> dict[str, Any]:
    """Return the path of Olive's best candidate and how it was made; nothing where no point met the goals."""
    best = output.get_best_candidate() if output and output.has_output_model() else None
    if best is None:
        return {"model": None, "passes": []}
    return {"model": best.model_path, "passes": lineage(work / "output" / "footprint.json", best.model_id)}


def lineage(footprint: Path, model_id: str) -> list[str]:
    nodes = json.loads(footprint.read_text())
    nodes = nodes.get("nodes", nodes)
    passes: list[str] = []
    while model_id and nodes.get(model_id, {}).get("from_pass"):
        passes.insert(0, described(nodes[model_id]))
        model_id = nodes[model_id]["parent_model_id"]
    return passes


def described(node: dict[str, Any]) -> str:
    asked = node.get("pass_run_config") or {}
    shown = [
        f"{key}={asked[key]}"
        for key in ("precision", "activation_type", "calibrate_method", "bits")
        if asked.get(key) is not None
    ]
    return f"{node['from_pass']}({', '.join(shown)})"


def evaluated(footprint: Path, metric: str) -> list[dict[str, Any]]:
    """Return what Olive measured of every model it made."""
    if not footprint.exists():
        return []
    nodes = json.loads(footprint.read_text())
    nodes = nodes.get("nodes", nodes)
    rows = []
    for model_id, node in nodes.items():
        if node.get("metrics"):
            values = node["metrics"]["value"]
            figures = {
                metric if name.startswith("quality-") else name: round(value["value"], 5)
                for name, value in values.items()
            }
            rows.append(
                {"passes": lineage(footprint, model_id), **figures, "goals": node["metrics"]["if_goals_met"]}
            )
    return rows


def seconds(started: float) -> dict[str, float]:
    """Return wall seconds since `started` and CPU seconds of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in used)
    return {"wall_s": time.time() - started, "cpu_s": cpu}


def has_vnni() -> bool:
    return "vnni" in Path("/proc/cpuinfo").read_text()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
