"""Counts the instructions a model costs on an emulated processor.

Times on a shared machine scatter by tens of percent; the number of instructions a guest executes does not
scatter at all. `plugin.c` counts them inside QEMU, and for arm64 and amd64 guests tells kinds apart (`aarch64.h`,
`x86.h`); `build` compiles it, `counts` runs a model under it.
"""
