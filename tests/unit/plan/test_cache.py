from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from edgewright.errors import EnvironmentFault
from edgewright.plan.cache import Cache


def stored(cache: Cache, folder: Path, text: str = "bytes") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_text(text)
    record = cache.store("k" * 64, {"spec": {}}, {"model.onnx": folder / "model.onnx"}, {"size_bytes": 5})
    return record.files["model.onnx"]


def test_a_record_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    digest = stored(cache, tmp_path / "out")
    record = cache.record("k" * 64)
    assert record is not None
    assert (record.files, record.facts) == ({"model.onnx": digest}, {"size_bytes": 5})
    assert cache.verified(digest).read_text() == "bytes"


def test_an_unknown_key_has_no_record(tmp_path: Path) -> None:
    assert Cache(tmp_path).record("0" * 64) is None


def test_a_record_whose_file_is_gone_does_not_count(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.path(stored(cache, tmp_path / "out")).unlink()
    assert cache.record("k" * 64) is None


def test_a_damaged_file_is_noticed_removed_and_explained(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    digest = stored(cache, tmp_path / "out")
    cache.path(digest).write_text("bytez")
    with pytest.raises(EnvironmentFault, match="damaged"):
        cache.verified(digest)
    assert cache.record("k" * 64) is None


def test_a_torn_record_does_not_count(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    stored(cache, tmp_path / "out")
    action = tmp_path / "cache" / "actions" / f"{'k' * 64}.json"
    action.write_bytes(action.read_bytes()[:-9])
    assert cache.record("k" * 64) is None


def test_a_full_disk_is_one_clear_error_and_leaves_no_record(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys; from pathlib import Path; from edgewright.plan.cache import Cache\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "root = Path(sys.argv[1]); (root / 'f').write_bytes(b'x' * 10)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "Cache(root / 'cache').store('k' * 64, {}, {'f': root / 'f'}, {})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "EnvironmentFault: cannot write the cache" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "cache" / "actions").iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0


@pytest.mark.parametrize("text", ["", "[]", "null", '{"parts": {}, "files": [1], "facts": {}}'])
def test_a_damaged_record_is_made_again(tmp_path: Path, text: str) -> None:
    cache = Cache(tmp_path / "cache")
    stored(cache, tmp_path / "out")
    cache.entry("k" * 64).write_text(text)
    assert cache.record("k" * 64) is None


def test_a_cache_that_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot read the cache"):
        Cache(tmp_path / "file").record("0" * 64)
