"""Updates by delta: a saving where it works, the whole file where anything at all is wrong with it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.contract import ANNOTATION_TITLE, digest_of
from edgewright_agent.errors import LinkClosedError, TransportError
from edgewright_agent.files import Calls, Free
from edgewright_agent.trial import Outcome
from unit.agent.core.delta_shelf import RUNTIME, SIZE, delta_bytes, offer, version
from unit.agent.core.test_encrypted_update import PLAIN, SEALED, give_key
from unit.agent.core.test_encrypted_update import offer as offer_sealed
from unit.agent.core.workbench import MODEL, Bench, DyingCalls, PowerCut, make_artifact

ONE = version(1)
TWO = version(2, parent=ONE)
THREE = version(3, parent=TWO)
WEIGHTS = TWO.files["model.onnx"]


@pytest.fixture
def running(tmp_path: Path) -> Bench:
    """A device that runs 1.0.0."""
    bench = Bench(tmp_path)
    bench.publish(ONE)
    assert bench.codes() == ["installed"]
    return bench


def update(bench: Bench) -> Outcome:
    """One poll after 2.0.0 was assigned; it must end with 2.0.0 running whole."""
    bench.shelf.asked.clear()
    bench.shelf.bytes_received = 0
    (outcome,) = bench.once().outcomes
    assert (outcome.code, bench.running()) == ("installed", "2.0.0"), outcome.message
    assert (bench.store.path(TWO.digest) / "model.onnx").read_bytes() == WEIGHTS
    return outcome


def came_whole(bench: Bench) -> bool:
    return any(digest_of(WEIGHTS) in line for line in bench.shelf.blob_requests())


def test_a_delta_is_fetched_in_place_of_the_model(running: Bench) -> None:
    delta = offer(running, ONE, TWO)
    running.publish(TWO)
    outcome = update(running)
    assert not came_whole(running)
    assert outcome.transfer is not None
    assert (outcome.transfer.delta_base, outcome.transfer.copied_files) == ("1.0.0", 1)
    assert outcome.transfer.fetched_bytes == delta.bytes + len(TWO.files["golden.json"])
    assert running.shelf.bytes_received < 0.1 * SIZE
    assert "delta from 1.0.0, " in outcome.message and "kB" in outcome.message


def test_a_window_that_closes_on_a_delta_is_no_reason_to_give_the_delta_up(running: Bench) -> None:
    offer(running, ONE, TWO)
    running.publish(TWO)
    real, running.shelf.chunk = running.shelf.blob, 1000

    def closing(repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        yield next(real(repository, digest, size=size, offset=offset))
        raise LinkClosedError("waits-for-window", "is loaded when the download window opens")

    running.shelf.blob = closing  # type: ignore[method-assign]
    report = running.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [("waits-for-window", 0)]
    running.shelf.blob = real  # type: ignore[method-assign]
    outcome = update(running)
    assert outcome.transfer and outcome.transfer.delta_base == "1.0.0"
    assert not came_whole(running)


def test_an_unchanged_file_is_copied_and_not_fetched_even_without_a_delta(running: Bench) -> None:
    running.publish(TWO)
    outcome = update(running)
    assert digest_of(RUNTIME) not in " ".join(running.shelf.blob_requests())
    assert outcome.transfer and outcome.transfer.copied_files == 1
    one, two = (running.store.path(made.digest) / "runtime.json" for made in (ONE, TWO))
    assert one.stat().st_ino != two.stat().st_ino, "one bad sector must not hit two versions"


def test_a_damaged_copy_is_not_carried_on(running: Bench) -> None:
    damaged = running.store.path(ONE.digest) / "runtime.json"
    damaged.write_bytes(b"!" + RUNTIME[1:])
    running.publish(TWO)
    update(running)
    assert (running.store.path(TWO.digest) / "runtime.json").read_bytes() == RUNTIME


def test_only_what_is_damaged_is_fetched_again(running: Bench) -> None:
    (running.store.path(ONE.digest) / "golden.json").write_bytes(bytes(len(ONE.files["golden.json"])))
    running.shelf.asked.clear()
    assert running.codes(force=True) == ["repaired"]
    assert len(running.shelf.blob_requests()) == 1
    assert running.running() == "1.0.0"


def test_a_delta_nobody_signed_is_not_even_asked_for(running: Bench) -> None:
    delta = offer(running, ONE, TWO, sign=False)
    running.publish(TWO)
    update(running)
    assert came_whole(running)
    assert delta.digest not in " ".join(running.shelf.asked)


def test_a_delta_from_what_is_not_installed_is_not_asked_for(running: Bench) -> None:
    delta = offer(running, THREE, TWO)
    running.publish(TWO)
    update(running)
    assert came_whole(running)
    assert delta.digest not in " ".join(running.shelf.asked)


def test_of_several_deltas_the_smallest_that_starts_here_is_taken(running: Bench) -> None:
    mine = offer(running, ONE, TWO)
    other = offer(running, THREE, TWO, data=delta_bytes(THREE.files["model.onnx"], WEIGHTS))
    running.trust.demands[TWO.digest] = {"deltas": (replace(other, bytes=1), mine)}
    running.publish(TWO)
    assert update(running).transfer.delta_base == "1.0.0"  # type: ignore[union-attr]


def test_a_delta_that_costs_more_than_the_rest_of_the_model_is_left(running: Bench) -> None:
    delta = offer(running, ONE, TWO)
    running.publish(TWO)
    staging = running.store.staging(TWO.digest)
    staging.mkdir()
    (staging / "model.onnx.part").write_bytes(WEIGHTS[: -delta.bytes // 2])
    update(running)
    assert came_whole(running)
    assert running.shelf.bytes_received < 4 * delta.bytes < SIZE / 10


def spoil_base(bench: Bench) -> None:
    path = bench.store.path(ONE.digest) / "model.onnx"
    path.write_bytes(b"\x00" * 5000 + path.read_bytes()[5000:])


def shorten_base(bench: Bench) -> None:
    (bench.store.path(ONE.digest) / "model.onnx").write_bytes(b"short")


def lose_base(bench: Bench) -> None:
    (bench.store.path(ONE.digest) / "model.onnx").unlink()


@pytest.mark.parametrize("damage", [spoil_base, shorten_base, lose_base])
def test_a_damaged_base_means_the_whole_model(running: Bench, damage: Callable[[Bench], None]) -> None:
    offer(running, ONE, TWO)
    running.publish(TWO)
    damage(running)
    update(running)
    assert came_whole(running)


HONEST = delta_bytes(ONE.files["model.onnx"], WEIGHTS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no delta",
        HONEST[:-3],
        HONEST + b"x",
        delta_bytes(ONE.files["model.onnx"], THREE.files["model.onnx"]),
        delta_bytes(THREE.files["model.onnx"], WEIGHTS),
    ],
    ids=["empty", "rubbish", "short", "long", "to another file", "from another file"],
)
def test_a_delta_that_is_signed_and_wrong_means_the_whole_model(running: Bench, data: bytes) -> None:
    offer(running, ONE, TWO, data=data)
    running.publish(TWO)
    update(running)
    assert came_whole(running)


def test_a_delta_whose_bytes_are_others_than_signed_means_the_whole_model(running: Bench) -> None:
    offer(running, ONE, TWO)
    running.publish(TWO)
    running.shelf.blobs[digest_of(HONEST)] = bytes(len(HONEST))
    update(running)
    assert came_whole(running)


def _edit(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        document[key] = value

    return edit


def _layer(**values: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        document["layers"][0] |= values

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        _edit("artifactType", "application/vnd.cncf.model.manifest.v1+json"),
        _edit("annotations", {}),
        _edit("annotations", []),
        _edit("layers", []),
        _edit("layers", "none"),
        _edit("schemaVersion", 1),
        _layer(mediaType="application/octet-stream"),
        _layer(size=1),
        _layer(size=True),
        _layer(size=2**70),
        _layer(digest="sha256:no"),
        _layer(annotations={ANNOTATION_TITLE: "../../etc/passwd"}),
        _layer(annotations={ANNOTATION_TITLE: "other.bin"}),
        _layer(annotations={ANNOTATION_TITLE: ["model.onnx"]}),
        lambda document: document["layers"].append(document["layers"][0]),
    ],
)
def test_a_manifest_that_makes_no_sense_means_the_whole_model(
    running: Bench, edit: Callable[[dict[str, Any]], None]
) -> None:
    offer(running, ONE, TWO, edit=edit)
    running.publish(TWO)
    update(running)
    assert came_whole(running)


def test_a_manifest_of_another_length_or_digest_means_the_whole_model(running: Bench) -> None:
    delta = offer(running, ONE, TWO)
    running.publish(TWO)
    running.shelf.manifests[MODEL, delta.digest] += b" "
    update(running)
    assert came_whole(running)


def test_a_delta_that_is_gone_from_the_registry_means_the_whole_model(running: Bench) -> None:
    delta = offer(running, ONE, TWO)
    running.publish(TWO)
    del running.shelf.manifests[MODEL, delta.digest]
    update(running)
    assert came_whole(running)


def test_a_dropped_line_ends_the_poll_and_the_next_one_goes_on_with_the_delta(running: Bench) -> None:
    offer(running, ONE, TWO)
    running.publish(TWO)
    running.shelf.chunk = 100
    asked = running.shelf.blob

    def drops(repository: str, digest: str, *, size: int, offset: int = 0) -> Any:
        if digest == digest_of(HONEST):
            if offset == 0:
                yield from (
                    piece for piece, _ in zip(asked(repository, digest, size=size), range(2), strict=False)
                )
            raise TransportError("network", "connection reset")
        yield from asked(repository, digest, size=size, offset=offset)

    running.shelf.blob = drops  # type: ignore[method-assign]
    (outcome,) = running.once().outcomes
    assert (outcome.code, came_whole(running)) == ("network", False)
    running.shelf.blob = asked  # type: ignore[method-assign]
    update(running)
    assert [line.split()[-1] for line in running.shelf.blob_requests() if digest_of(HONEST) in line] == [
        "200"
    ]


def test_a_delta_that_never_comes_does_not_keep_the_model_away(running: Bench) -> None:
    offer(running, ONE, TWO)
    running.publish(TWO)
    asked = running.shelf.blob

    def never(repository: str, digest: str, *, size: int, offset: int = 0) -> Any:
        if digest == digest_of(HONEST):
            raise TransportError("network", "connection reset")
        return asked(repository, digest, size=size, offset=offset)

    running.shelf.blob = never  # type: ignore[method-assign]
    assert running.codes() == ["network"]
    update(running)
    assert came_whole(running)


def test_a_failed_delta_is_not_fetched_again_when_the_whole_model_is_interrupted(running: Bench) -> None:
    delta = offer(running, ONE, TWO, data=b"no delta")
    running.publish(TWO)
    running.shelf.cut_after, running.shelf.chunk = 100_000, 100_008

    def twice(repository: str, digest: str, *, size: int, offset: int = 0) -> Any:
        if offset:
            raise TransportError("network", "connection reset")
        yield from asked(repository, digest, size=size, offset=offset)

    asked = running.shelf.blob
    running.shelf.blob = twice  # type: ignore[method-assign]
    assert running.codes() == ["network"]
    running.shelf.blob = asked  # type: ignore[method-assign]
    update(running)
    assert delta.digest not in " ".join(running.shelf.asked)


def test_deltas_are_never_chained(running: Bench) -> None:
    offer(running, ONE, TWO)
    offer(running, TWO, THREE)
    running.publish(TWO, THREE)
    assert running.codes() == ["installed"]
    assert running.running() == "3.0.0"
    assert any(digest_of(THREE.files["model.onnx"]) in line for line in running.shelf.blob_requests())


def test_a_delta_that_needs_more_room_than_there_is_is_left_for_the_model(
    tmp_path: Path, running: Bench
) -> None:
    delta = offer(running, ONE, TWO)
    running.publish(TWO)
    free = sum(map(len, TWO.files.values())) + len(TWO.body) + delta.bytes // 2

    class Tight(Calls):
        def free(self, path: Path) -> Free:
            return Free(free, None, block_bytes=1)

    running.calls = Tight()
    update(running)
    assert came_whole(running)


def test_no_file_of_a_delta_stays_behind(running: Bench) -> None:
    offer(running, ONE, TWO)
    running.publish(TWO)
    update(running)
    assert {path.name for path in running.store.path(TWO.digest).iterdir()} == {*TWO.files, "manifest.json"}
    assert not running.store.staging(TWO.digest).exists()


def test_a_cut_at_any_operation_is_recovered_from(tmp_path: Path) -> None:
    prepared = Bench(tmp_path / "prepared")
    prepared.publish(ONE)
    prepared.once()

    def go_on(folder: Path, calls: Calls | None = None) -> Bench:
        bench = Bench(folder, calls=calls)
        for made in (ONE, TWO):
            bench.publish(made)
        offer(bench, ONE, TWO)
        return bench

    shutil.copytree(prepared.folder, tmp_path / "whole", symlinks=True)
    counted = DyingCalls()
    assert [outcome.code for outcome in go_on(tmp_path / "whole", counted).once().outcomes] == ["installed"]
    for dies_at in random.Random("delta").sample(range(1, counted.count + 1), 30):
        folder = tmp_path / "cut"
        shutil.copytree(prepared.folder, folder, symlinks=True)
        with pytest.raises(PowerCut):
            go_on(folder, DyingCalls(dies_at)).once()
        again = go_on(folder)
        assert again.running() in ("1.0.0", "2.0.0")
        again.once()
        assert again.running() == "2.0.0"
        assert not came_whole(again)
        again.once()
        assert {e.name for e in (again.state / "store").iterdir()} == {made.digest[7:] for made in (ONE, TWO)}
        shutil.rmtree(folder)


def test_an_encrypted_artifact_takes_no_delta(running: Bench) -> None:
    give_key(running)
    delta = offer(running, ONE, SEALED, data=b"x" * 10)
    offer_sealed(running)
    assert running.codes() == ["installed"]
    assert delta.digest not in " ".join(running.shelf.asked)


def test_a_file_that_is_there_is_copied_into_an_encrypted_artifact_for_few_to_read(running: Bench) -> None:
    give_key(running)
    same = PLAIN.files | {"model.onnx": SEALED.files["model.onnx"]}
    running.publish(make_artifact("1.5.0", files=same))
    assert running.codes() == ["installed"]
    offer_sealed(running)
    running.shelf.asked.clear()
    (outcome,) = running.once().outcomes
    assert outcome.code == "installed" and outcome.transfer and outcome.transfer.copied_files
    model = running.store.path(SEALED.digest) / "model.onnx"
    assert (model.stat().st_mode & 0o777, model.parent.stat().st_mode & 0o777) == (0o640, 0o750)


@pytest.mark.parametrize(
    "ends",
    [
        LinkClosedError("waits-for-window", "the window closes"),
        LinkClosedError("waits-for-link", "bytes cost money now"),
        TransportError("captive-portal", "a login page answers"),
    ],
    ids=lambda error: str(error.code),
)
def test_a_link_that_closes_in_the_middle_of_a_delta_says_nothing_about_the_delta(
    running: Bench, ends: TransportError
) -> None:
    """The next poll goes on with the delta: what it saved was not given up for the whole model."""
    offer(running, ONE, TWO)
    running.publish(TWO)
    running.shelf.chunk = 100
    asked = running.shelf.blob

    def closes(repository: str, digest: str, *, size: int, offset: int = 0) -> Any:
        yield next(asked(repository, digest, size=size, offset=offset))
        raise ends

    running.shelf.blob = closes  # type: ignore[method-assign]
    (outcome,) = running.once().outcomes
    assert (outcome.code, came_whole(running)) == (ends.code, False)
    running.shelf.blob = asked  # type: ignore[method-assign]
    outcome = update(running)
    assert not came_whole(running)
    assert outcome.transfer is not None and outcome.transfer.delta_base == "1.0.0"
