"""Counts the instructions a model costs on an emulated processor.

Times on a shared machine scatter by tens of percent; the number of instructions a guest executes does not
scatter at all. `plugin.c` counts them inside QEMU, `build` compiles it, `counts` runs a model under it.
"""
