"""What a calibration finds, made up: nets of known cost, and the document a device would have written of them."""

from __future__ import annotations

from typing import Any

from edgewright.bench.calibration.nets import Net
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from edgewright_agent.contract import MEASURED_KIND
from real import ROOT

FIGURES = {
    "cyclesByKind": {
        "fp32": {"loads": 0.7, "simdFma": 0.00004, "perInference": 123456.0},
        "int8": {"scalar": 0.5, "branchMisses": 12.5},
    },
    "loading": {"cyclesPerInstruction": 0.9, "cyclesPerByte": 1.25, "once": 3_000_000.0},
    "threadSpeedup": 1.72,
    "calibration": "measured",
    "calibratedOn": '2026-03-14, onnxruntime 1.31.1, A "Board" # 5: ü',
    "fitError": 6.1,
}


def sheet(hardware_class: str) -> Sheet:
    return Sheet.of(load_fleet(ROOT).hardware[hardware_class])


def net(name: str, *, model: bytes = b"model") -> Net:
    return Net(name, name.rpartition("-")[2], model, (1, 2, 2), 1000)


def document(**changed: Any) -> dict[str, Any]:
    """What `edgewright-agent calibrate` writes of two nets, one of which could not be run."""
    return {
        "kind": MEASURED_KIND,
        "version": 1,
        "date": "2026-03-14T08:09:10Z",
        "kit": {
            "digest": "sha256:" + "a" * 64,
            "hardwareClass": "raspberry-pi-4",
            "recipe": {"seed": 1, "nets": 2, "reduceRange": False},
        },
        "processor": "Raspberry Pi 4 Model B Rev 1.5",
        "machine": "aarch64",
        "cores": 4,
        "threads": 3,
        "engine": "onnxruntime 1.31.1",
        "rounds": 2,
        "nets": {
            "cnn-000-fp32": {
                "cpuMs": [2.2, 2.0],
                "wallMs": [2.3, 2.4],
                "threadsMs": [1.5, 1.0],
                "loadCpuMs": [9.0, 8.0],
                "loadMs": [10.0, 9.0],
            },
            "cnn-000-int8": {"failure": "no kernel"},
        },
        **changed,
    }
