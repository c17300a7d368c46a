"""Latencies in a few numbers, however many there were: counts in logarithmic buckets.

>>> percentile_ms({80: 95, 104: 5}, 0.5), percentile_ms({}, 0.5)
(1.069, None)
>>> bucket_of(1024.0), round(middle_us(80))
(80, 1069)

Bucket `i` holds 2^(i/8) to 2^((i+1)/8) microseconds, so what is told of it, its middle, is off by 4.5 % at most
(2^(1/16) - 1). The first holds everything below as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgewright_agent.contract import LATENCY_BUCKETS_PER_DOUBLING

MAX_BUCKET = 40 * LATENCY_BUCKETS_PER_DOUBLING  # 2^40 microseconds, twelve days


def bucket_of(microseconds: float) -> int:
    """Return the bucket of a latency."""
    if not microseconds > 1:
        return 0
    return int(min(LATENCY_BUCKETS_PER_DOUBLING * math.log2(microseconds), MAX_BUCKET))


def middle_us(bucket: int) -> float:
    """Return what a bucket stands for: its geometric middle, in microseconds."""
    return float(2.0 ** ((bucket + 0.5) / LATENCY_BUCKETS_PER_DOUBLING))


def quantile_us(counts: Mapping[int, int], share: float) -> float | None:
    """Return the latency in microseconds that a share of all did not exceed; None without any."""
    wanted, seen = share * sum(counts.values()), 0
    for bucket, count in sorted(counts.items()):
        seen += count
        if seen >= wanted and count:
            return middle_us(bucket)
    return None


def percentile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """Return the same in milliseconds, to three places."""
    found = quantile_us(counts, share)
    return None if found is None else round(found / 1000, 3)
