"""Edgewright: from a Git repository of models and hardware sheets to verified models on edge devices.

The packages follow the path of a release: `spec` reads the YAML, `plan` decides what must be built and why,
`build`, `bench`, `publish` and `trust` do it, `assets` shows it in Dagster, `cli` is how people ask for it.
"""

__version__ = "0.1.0"
