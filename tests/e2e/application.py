"""An application as somebody would write one: threads that infer for as long as it runs, and what they saw.

$ python application.py STATE MODEL --threads 3 [--abort-on DIGEST]

Tells every change of what answers, one JSON object per line, and for every line of its standard input one more answer
that came after it. It ends when its standard input does, and then tells everything: requests, what failed, and which
values each version gave.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections import Counter
from typing import Any

import numpy as np

from edgewright_agent.runtime import Session, open_model


class Application:
    """What its threads share."""

    def __init__(self, session: Session, abort_on: str | None) -> None:
        self.session, self.abort_on = session, abort_on
        self.over = threading.Event()
        self.requests = 0
        self.failures: list[str] = []
        self.seen: Counter[tuple[str, str, str, float]] = Counter()
        self.last: tuple[str, str, str, float] | None = None
        self._asked = 0
        self._lock = threading.Lock()

    def work(self) -> None:
        """Infer until it is over."""
        inputs = {port.name: np.zeros((1, 2), np.float32) for port in self.session.inputs}
        while not self.over.wait(0.002):  # a device has other things to do as well
            asked = self._asked
            try:
                answer = self.session.answer(inputs)
            except Exception as error:  # noqa: BLE001  whatever it is, the request has failed
                self._note(None, repr(error))
                continue
            if answer.digest == self.abort_on:
                os.abort()
            value = float(answer.outputs["y"][0, 0])
            self._note((answer.version, answer.digest, answer.rung, value), None)
            if asked:
                with self._lock:
                    told, self._asked = min(asked, self._asked), max(0, self._asked - asked)
                for _ in range(told):
                    tell(event="goes-on", version=answer.version, value=value)

    def ask(self) -> None:
        """Have the next answer told."""
        with self._lock:
            self._asked += 1

    def _note(self, seen: tuple[str, str, str, float] | None, failure: str | None) -> None:
        with self._lock:
            self.requests += 1
            if failure is not None:
                self.failures.append(failure)
            if seen is None:
                return
            self.seen[seen] += 1
            if seen != self.last:
                self.last = seen
                version, digest, rung, value = seen
                tell(event="answered", version=version, digest=digest, rung=rung, value=value)


def tell(**what: Any) -> None:
    """Print one line."""
    print(json.dumps(what), flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("state")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--abort-on")
    options = parser.parse_args()
    with open_model(options.model, options.state) as session:
        tell(event="opened", version=session.version, digest=session.digest, rung=session.rung)
        application = Application(session, options.abort_on)
        threads = [threading.Thread(target=application.work) for _ in range(options.threads)]
        for thread in threads:
            thread.start()
        for _line in sys.stdin:
            application.ask()
        application.over.set()
        for thread in threads:
            thread.join()
        seen = [
            {"version": version, "digest": digest, "rung": rung, "value": value, "count": count}
            for (version, digest, rung, value), count in application.seen.items()
        ]
        tell(event="over", requests=application.requests, failures=application.failures, seen=seen)


if __name__ == "__main__":
    main()
