"""One server and its bounded queue: requests come in, wait their turn, are served one at a time, or are dropped.

>>> server = Server(Workload("periodic", rate_per_s=10, queue=1), work=4_000_000, seed="any")
>>> server.advance(1_000_000_000, clock=1)     # one second at full clock: nine requests have come and gone
36000000
>>> server.sojourns_ns[:2]
[4000000, 4000000]

Work is counted in clock cycles (up to a constant), so a clock that changes halfway through a service is exact: what
is left takes longer, what is done stays done.
"""

from __future__ import annotations

from collections import deque

from edgewright.bench.virtual.workload import Workload


class Server:
    """First come, first served; a request that finds the queue full is dropped.

    Args:
        load: When requests come, and how many may wait.
        work: Cycles of one service: its duration at some clock times that clock (ns · kHz).
        seed: Of the arrivals.

    Attributes:
        now_ns: Until when everything has happened.
        requests: How many have come.
        dropped: How many of them found the queue full.
        sojourns_ns: Time from arrival to answer, in the order of answers.
        services_ns: Time from start to answer, likewise.
    """

    def __init__(self, load: Workload, work: int, seed: str) -> None:
        self.now_ns = 0
        self.requests = 0
        self.dropped = 0
        self.sojourns_ns: list[int] = []
        self.services_ns: list[int] = []
        self._places = load.queue
        self._work = work
        self._arrivals = load.arrivals_ns(seed)
        self._next_ns = next(self._arrivals)
        self._waiting: deque[int] = deque()
        self._serving = False
        self._arrived_ns = self._started_ns = self._left = 0

    @property
    def pending(self) -> int:
        """How many wait or are being served now."""
        return len(self._waiting) + self._serving

    def advance(self, end_ns: int, clock: int) -> int:
        """Let everything happen until `end_ns` at a constant clock; return the time spent serving (ns).

        An answer at `end_ns` itself is given, a request at `end_ns` itself is left for later. An answer goes
        before a request of the same moment, so the place it frees can be taken.
        """
        # Locals: this loop runs a million times in ten minutes of a fast sensor.
        serving, waiting, next_ns = self._serving, self._waiting, self._next_ns
        arrived_ns, started_ns, left = self._arrived_ns, self._started_ns, self._left
        service_ns = -(-self._work // clock)
        since_ns, busy_ns = self.now_ns, 0
        done_ns = since_ns - (-left // clock)
        while True:
            if serving and done_ns <= end_ns and done_ns <= next_ns:
                self.sojourns_ns.append(done_ns - arrived_ns)
                self.services_ns.append(done_ns - started_ns)
                busy_ns += done_ns - since_ns
                serving = bool(waiting)
                if serving:
                    arrived_ns, started_ns, since_ns, left = waiting.popleft(), done_ns, done_ns, self._work
                    done_ns += service_ns
            elif next_ns < end_ns:
                self.requests += 1
                if not serving:
                    serving, left = True, self._work
                    arrived_ns = started_ns = since_ns = next_ns
                    done_ns = next_ns + service_ns
                elif len(waiting) < self._places:
                    waiting.append(next_ns)
                else:
                    self.dropped += 1
                next_ns = next(self._arrivals)
            else:
                break
        if serving:
            busy_ns += end_ns - since_ns
            left -= clock * (end_ns - since_ns)
        self._serving, self._next_ns, self.now_ns = serving, next_ns, end_ns
        self._arrived_ns, self._started_ns, self._left = arrived_ns, started_ns, left
        return busy_ns
