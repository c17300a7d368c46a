"""Where models are run: this machine, or another processor's userland under a user-mode emulator.

`userland` says what a foreign userland is made of, `provision` fetches it, `processor` picks the core a hardware
class declares, `emulator` runs the `probe` inside.
"""
