"""The cap on bandwidth: how fast models are read, by a clock of the test's own; and that it is no attack to be slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright_agent.contract import OCI_MANIFEST, TUF_REPOSITORY, digest_of
from edgewright_agent.errors import LinkClosedError
from edgewright_agent.transport.allowance import BURST_S, Allowance
from edgewright_agent.transport.pace import MeteredSocket, Pace
from edgewright_agent.transport.registry import RegistrySource
from unit.agent.transport.liar import Liar, answer

BLOB = bytes(range(256)) * 64  # 16 KiB
DIGEST = digest_of(BLOB)
AT = f"/v2/acme/model/blobs/{DIGEST}"


class Time:
    """A clock that only sleeping moves on."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now_s += seconds


def capped(bits_per_s: int | None) -> tuple[Allowance, Time]:
    time = Time()
    allowance = Allowance(clock=time, sleep=time.sleep)
    allowance.limit(bits_per_s)
    return allowance, time


def source(liar: Liar, allowance: Allowance, pace: Pace | None = None) -> RegistrySource:
    return RegistrySource(f"{liar.url}/acme", allowance=allowance, pace=pace, timeout_s=5.0)


def read(made: RegistrySource) -> bytes:
    return b"".join(made.blob("model", DIGEST, size=len(BLOB)))


@given(st.integers(1000, 10**9), st.lists(st.integers(1, 10**6), min_size=1, max_size=30))
def test_no_more_than_the_cap_and_one_burst_ever_comes(bits_per_s: int, pieces: list[int]) -> None:
    allowance, time = capped(bits_per_s)
    for piece in pieces:
        allowance.take(piece)
    assert time.now_s - 1000.0 == pytest.approx(max(0.0, sum(pieces) * 8 / bits_per_s - BURST_S), abs=1e-3)


def test_a_pause_earns_no_flood() -> None:
    allowance, time = capped(8000)
    allowance.take(1000)
    time.now_s += 3600
    before = time.now_s
    allowance.take(10_000)
    assert time.now_s - before == pytest.approx(9.0)


def test_without_a_cap_nobody_waits() -> None:
    allowance, time = capped(None)
    allowance.take(10**9)
    assert time.naps == []
    assert allowance.buffer_bytes is None


@pytest.mark.parametrize("bits_per_s", [1000, 8000, 80_000, 10**7, 10**10])
def test_reads_and_the_receive_buffer_are_as_small_as_the_cap_asks(bits_per_s: int) -> None:
    allowance, _ = capped(bits_per_s)
    assert 256 <= allowance.read_bytes <= 256 * 1024
    assert allowance.read_bytes <= max(256, bits_per_s / 8 / 4)
    assert allowance.buffer_bytes is not None
    assert 4096 <= allowance.buffer_bytes <= 256 * 1024


def test_a_blob_is_read_at_the_cap_in_small_pieces(liar: Liar) -> None:
    liar.says(AT, answer(200, BLOB))
    allowance, time = capped(16_384)  # 2 KiB/s: 16 KiB take eight seconds, one of which may come at once
    assert read(source(liar, allowance)) == BLOB
    assert time.now_s - 1000.0 == pytest.approx(7.0)
    assert max(time.naps) <= 0.5


def test_a_cap_below_the_least_rate_is_no_attack(liar: Liar) -> None:
    """At 125 B/s the least rate of 1 KiB/s would end the download after the first 30 seconds of waiting."""
    liar.says(AT, answer(200, BLOB))
    allowance, time = capped(1000)

    def waiting_is_what_we_sleep() -> float:
        time.now_s += 0.05  # every look costs a little: waiting for a sender that we ourselves slow down
        return time.now_s

    pace = Pace(window_s=1.0, clock=waiting_is_what_we_sleep)
    assert read(source(liar, allowance, pace)) == BLOB


def test_metadata_is_not_slowed_down(liar: Liar) -> None:
    liar.says("/v2/acme/model/manifests/1", answer(200, b"{}" + b" " * 5000, Content_Type=OCI_MANIFEST))
    allowance, time = capped(1000)
    assert source(liar, allowance).manifest("model", "1") is not None
    assert time.naps == []


def test_metadata_comes_as_blobs_over_a_closed_link_too(liar: Liar) -> None:
    """Or a device would not know what it waits for, and its metadata would end meanwhile."""
    liar.says(f"/v2/acme/{TUF_REPOSITORY}/blobs/{DIGEST}", answer(200, BLOB))
    allowance, time = capped(1000)

    def permit() -> None:
        raise LinkClosedError("waits-for-window", "closed")

    allowance.permit = permit
    blob = source(liar, allowance).blob(TUF_REPOSITORY, DIGEST, size=len(BLOB))
    assert (b"".join(blob), time.naps) == (BLOB, [])


def test_the_kernel_is_told_to_receive_little_ahead(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    real: Callable[[MeteredSocket, int], None] = MeteredSocket.receive_at_most
    monkeypatch.setattr(
        MeteredSocket, "receive_at_most", lambda made, count: (told.append(count), real(made, count))[1]
    )
    liar.says(AT, answer(200, BLOB))
    allowance, _ = capped(80_000)
    assert read(source(liar, allowance)) == BLOB
    assert told == [20_000]


def test_a_sender_cannot_run_far_ahead_of_a_cap(liar: Liar) -> None:
    """What the cap is for: the bytes stay on the other side of the link, not in this device's kernel."""
    sent = 0
    big = b"x" * (32 * 1024 * 1024)

    def script(_headers: dict[str, str]) -> Iterator[bytes]:
        nonlocal sent
        yield answer(200, length=len(big))
        for start in range(0, len(big), 4096):
            yield big[start : start + 4096]
            sent = start + 4096

    at = f"/v2/acme/model/blobs/{digest_of(big)}"
    liar.says(at, script)
    allowance, _ = capped(80_000)
    chunks = source(liar, allowance).blob("model", digest_of(big), size=len(big))
    for _ in range(20):
        next(chunks)
    assert sent < len(big) / 2, "the sender's own buffer is the rest"
    chunks.close()  # type: ignore[attr-defined]


def test_a_link_that_closes_ends_a_download_between_two_pieces(liar: Liar) -> None:
    liar.says(AT, answer(200, BLOB))
    allowance, _ = capped(16_384)
    got = 0

    def permit() -> None:
        if got >= 4096:
            raise LinkClosedError("waits-for-window", "the window is over")

    allowance.permit = permit
    with pytest.raises(LinkClosedError):
        for chunk in source(liar, allowance).blob("model", DIGEST, size=len(BLOB)):
            got += len(chunk)
    assert 4096 <= got < len(BLOB)


def test_over_a_closed_link_nothing_is_even_asked_for(liar: Liar) -> None:
    allowance, _ = capped(None)

    def permit() -> None:
        raise LinkClosedError("waits-for-link", "metered")

    allowance.permit = permit
    with pytest.raises(LinkClosedError):
        read(source(liar, allowance))
    assert liar.requests == []
