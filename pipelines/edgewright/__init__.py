"""Edgewright: from a Git repository of models and hardware sheets to verified models on edge devices.

The packages follow the path of a release: `spec` reads the YAML, `plan` decides what must be built and why,
`build`, `bench`, `publish` and `trust` do it, `assets` shows it in Dagster, `cli` is how people ask for it.
"""

import os

# ONNX Runtime's Linux wheel starts a telemetry thread and looks up host names when it is imported, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
