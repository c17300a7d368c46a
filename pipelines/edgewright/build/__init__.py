"""From a network and its weights to an evaluated ONNX model: checkpoint → exported → optimized → evaluated.

Each stage is one module with `run(job)`; torch, onnx and onnxruntime are imported by these modules only,
never by this package itself, so the planner may name a stage without paying for it.
"""
