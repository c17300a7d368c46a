"""The field condition: what happens to a model's inputs where it works, and what it must still be worth then."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from edgewright.spec.base import NAME, Spec, Text
from edgewright.spec.quantity import Quantity

ConditionName = Annotated[
    str,
    replace(
        NAME,
        what="a name of lower-case letters, digits and single dashes, at most 40 characters",
        examples=("dim-light",),
        max_length=40,  # it becomes a gate check, accuracy-under-<name>, and the label of a bar
    ),
]
"""A name short enough for a gate check."""

TensorName = Annotated[str, Text("a name that ONNX and Python accept", r"[A-Za-z_][A-Za-z0-9_]*", ("image",))]
"""Name of an input or output."""

Decibel = Annotated[
    float,
    # Beyond 100 dB noise is smaller than the last bit of a float32; below -100 dB there is no signal to speak of.
    Quantity("a ratio of powers", {"dB": (1, 1)}, "dB", ("15dB",), signed=True, zero=True, maximum=100),
]
"""A ratio of two powers; read as decibels."""
Offset = Annotated[
    float,
    Quantity("a share", {"%": (1, 1)}, "%", ("5%", "-5%"), signed=True, maximum=100, near={"percent": "%"}),
]
"""A share of full scale, either way; read as percent."""
Losses = Annotated[
    float, Quantity("a share", {"%": (1, 1)}, "%", ("2%",), maximum=100, near={"percent": "%"})
]
"""A share that is more than nothing; read as percent."""

# As far as a float32 holds a million steps each way; a wider scale is a typing mistake, not a sensor.
ScaleEnd = Annotated[float, Field(ge=-1e9, le=1e9)]


class Condition(Spec):
    """What goes wrong between the world and the inputs, in the order of a signal chain, and the accuracy left."""

    name: ConditionName
    """What people call it; its gate check is `accuracy-under-<name>`."""
    floor: float = Field(gt=0, le=1)
    """Lowest accuracy that may ship under it."""
    inputs: tuple[TensorName, ...] | None = Field(default=None, min_length=1)
    """Inputs it happens to; absent: all. Only `float32` and `uint8` are signals of a sensor."""
    gain: float | None = Field(default=None, gt=0, le=1000)
    """Factor on the signal, such as exposure time or sensitivity; absent: 1."""
    offset: Offset | None = None
    """Added to the signal, as a share of full scale: stray light, a drifting zero."""
    snr: Decibel | None = None
    """Power of the clean signal (about its mean, over all samples) to that of white noise added after `gain`."""
    adc_bits: int | None = Field(default=None, ge=1, le=24)
    """Resolution of the converter over full scale; absent: that of the data."""
    full_scale: tuple[ScaleEnd, ...] | None = Field(default=None, min_length=2, max_length=2)
    """Least and largest value the sensor can express; beyond it clips. Absent: those of the test data."""
    dropped: Losses | None = None
    """Share of readings, along the last axis, that are lost on the way."""
    fill: Literal["hold", "zero"] | None = None
    """What stands in for a lost reading: the one before it, or 0; absent: `hold`."""


class ConditionOverride(Spec):
    """Another floor of one condition on one class."""

    name: ConditionName
    """The condition."""
    floor: float = Field(gt=0, le=1)
    """Lowest accuracy that may ship under it on this class."""
