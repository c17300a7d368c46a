"""What a session would send, for tests.

>>> json.loads(beat(inferences=3))["inferences"]
3
"""

from __future__ import annotations

import json
from typing import Any

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
SESSION = "00ff00ff00ff00ff"


def beat(event: str = "beat", *, session: str = SESSION, **changes: Any) -> bytes:
    """Return a datagram; `changes` by the names of the format."""
    document = {
        "version": 1,
        "pid": 4711,
        "session": session,
        "model": "digit-reader",
        "digest": DIGEST,
        "event": event,
        "rung": "normal",
        "code": "",
        "providers": ["CPUExecutionProvider"],
        "inferences": 0,
        "errors": 0,
        "inputErrors": 0,
        "safeOutputs": 0,
        "inFlightS": 0.0,
        "sinceSuccessS": None,
        "latency": [],
        "confidence": None,
        "drift": {"confidence": None, "inputs": {}},
        "experiment": None,
    }
    return json.dumps(document | changes).encode()
