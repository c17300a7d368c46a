"""Published figures of real cores: how many cycles an instruction costs on them.

Fitted on the public benchmark table of another runtime, ncnn: single-thread latencies of its networks on real
boards against the instructions they take under QEMU. ONNX Runtime's loops are others, so a figure made with an anchor
says `public-anchor` and carries a wider band than one measured with ONNX Runtime itself.

>>> ANCHORS["cortex-a72"].cycles_per_instruction
1.35
>>> anchor_of("cortex-a78ae") is None
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NCNN = "https://github.com/Tencent/ncnn/blob/master/benchmark/README.md"


@dataclass(frozen=True)
class Anchor:
    """Cycles per instruction of one core, one thread, over all kinds of instructions of an fp32 network.

    Attributes:
        core: As `cpu.model` of a hardware class names it.
        cycles_per_instruction: Total cycles over total guest instructions.
        processor: What was measured.
        source: Where the latencies are published.
    """

    core: str
    cycles_per_instruction: float
    processor: str
    source: str = NCNN

    @property
    def note(self) -> str:
        """What to say beside a figure made with it."""
        return f"cycles per instruction from {self.processor}, another runtime's anchors (ncnn's benchmark table)"


ANCHORS: Mapping[str, Anchor] = {
    anchor.core: anchor
    for anchor in (
        Anchor("cortex-a53", 1.93, "Cortex-A53"),
        Anchor("cortex-a72", 1.35, "Cortex-A72"),
        Anchor("cortex-a76", 0.58, "Cortex-A76"),
        Anchor("tremont", 0.48, "Celeron N5105"),
        Anchor("airmont", 0.77, "Atom x5-Z8350"),
    )
}


def anchor_of(core: str) -> Anchor | None:
    """Return the anchor of a core, by its name as hardware classes write it; None for a core without one."""
    return ANCHORS.get(core.lower())
