"""Where models are run: this machine, or another processor's userland under a user-mode emulator.

`userland` says what a foreign userland is made of, `provision` fetches it, `processor` picks the core a hardware
class declares, `emulator` runs the `probe` inside. `provider` runs another build of ONNX Runtime on this machine, for
an execution provider that the class has; `process` and `cgroup` hold what runs to its time and memory.
"""
