"""The safe output: what an application gets when no model on the device can be used.

The last step of the degraded-mode ladder on a device (agent/README.md). It is declared beside the model, because only
who knows what the answer is used for can say which answer does no harm.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, model_validator

from edgewright.spec.base import Spec, contradiction
from edgewright.spec.condition import TensorName
from edgewright.spec.quantity import Seconds


class SafeOutput(Spec):
    """What answers when no model can; exactly the keys that its kind takes."""

    kind: Literal["no-decision", "constant", "hold-last"]
    """`no-decision`: an error the application must handle; `constant`: always the same answer; `hold-last`: the last
    answer a model gave, while it is young enough, then `no-decision`."""
    outputs: dict[TensorName, JsonValue] | None = Field(default=None, min_length=1)
    """With `constant`: every output of the signature, as nested lists for one sample, without the batch dimension."""
    max_age: Seconds | None = None
    """With `hold-last`: how old the last answer may be."""

    @model_validator(mode="after")
    def _kind_has_its_keys(self) -> SafeOutput:
        """Check that each kind has its key and no other's.

        Raises:
            PydanticCustomError: says which key is missing or has no effect.
        """
        for kind, key, value in (
            ("constant", "outputs", self.outputs),
            ("hold-last", "maxAge", self.max_age),
        ):
            if self.kind == kind and value is None:
                raise contradiction(f"'{key}' is missing: {kind} needs it")
            if self.kind != kind and value is not None:
                raise contradiction(f"'{key}' has no effect with {self.kind}")
        return self
