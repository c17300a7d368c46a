"""One thread, seeded, deterministic algorithms: the mode in which torch gives the same weights again.

The mode is process-wide in torch, so it is entered for a while and left as it was found.

>>> with repeatable(seed=0):
...     network = code.call("network:build")
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Seed everything random and use one thread and deterministic algorithms inside the block.

    Sums over several threads are added in another order, so weights differ with the number of threads (and,
    in the last bits, with the kind of processor: trained weights are addressed by digest, never assumed
    equal).
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    plain, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(threads)
            random.setstate(plain)
            np.random.set_state(legacy)
