"""Decides what must be built and why, from specs and digests alone: no torch, no onnx, no Dagster."""
