"""Calibrating a hardware class: what an instruction costs there, fitted on small nets that were measured on a device.

`nets` makes them, `kit` carries them, the agent measures them, `batch` counts their instructions, `fit` finds the
coefficients and `sheet` writes them into the class's YAML.
"""
