"""Reads and checks the YAML a team reviews: `fleet.yaml`, `hardware/`, `models/*/model.yaml` and `baselines/`.

>>> from pathlib import Path
>>> from edgewright.spec.load import load_fleet
>>> workspace = load_fleet(Path("."))
>>> workspace.hardware["raspberry-pi-4"].limits.latency.p95
40.0

Every mistake in every file is reported at once, as `file:line:col` with what would be right
(`edgewright.spec.problem.InvalidSpec`). The pydantic models are the single source of validation, JSON Schemas
and `edgewright explain`.
"""
