"""What the agent reads in `runtime.json`: everything in it is applied, and nonsense is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from edgewright_agent.engine import caches_of, load
from edgewright_agent.errors import HealthError
from edgewright_agent.files import Disk
from edgewright_agent.settings import Settings, parse, read
from edgewright_agent.store import Store
from unit.agent.core import onnx_artifact

TENSORRT, CPU = "TensorrtExecutionProvider", "CPUExecutionProvider"
PLAIN: dict[str, Any] = {
    "version": 1, "versions": ">=1.20,<2", "providers": [CPU], "threads": 1, "arena": True,
    "graphOptimization": "extended",
}  # fmt: skip


class WithTensorRt:
    """An engine that says it has TensorRT."""

    @staticmethod
    def get_available_providers() -> list[str]:
        return [TENSORRT, CPU]


def tensorrt(**options: str) -> Settings:
    return parse({**PLAIN, "providers": [TENSORRT, CPU], "providerOptions": {TENSORRT: options}})


def test_every_setting_reaches_the_session() -> None:
    document = {
        **PLAIN, "threads": 3, "arena": False, "memoryPattern": False, "graphOptimization": "basic",
        "sessionConfig": {"session.intra_op.allow_spinning": "0"},
    }  # fmt: skip
    options = parse(document).session_options(onnxruntime)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_manifest_of_the_first_agents_is_still_read() -> None:
    settings = parse(PLAIN)
    assert (settings.memory_pattern, settings.options, settings.config) == (True, {}, {})
    assert settings.external_data == ()


def test_unknown_keys_are_left_alone() -> None:
    assert parse({**PLAIN, "expected": {"watts": 3}, "colour": "blue"}) == parse(PLAIN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version is 2, this agent reads 1: update it"),
        ({"providers": []}, r"providers is \[\], it must be a list of provider names"),
        ({"providers": "CPU"}, 'providers is "CPU"'),
        ({"threads": 0}, "threads is 0, it must be a number from 1 to 512"),
        ({"threads": True}, "threads is true"),
        ({"arena": "yes"}, 'arena is "yes", it must be true or false'),
        ({"memoryPattern": 1}, "memoryPattern is 1"),
        ({"graphOptimization": "most"}, 'graphOptimization is "most", it must be one of disabled, basic'),
        ({"sessionConfig": {"session.x": 1}}, "sessionConfig is .*, it must be strings by key"),
        ({"sessionConfig": {"a b": "1"}}, "sessionConfig is"),
        ({"providerOptions": {CPU: {"use_arena": 1}}}, "providerOptions is"),
        ({"providerOptions": {TENSORRT: {}}}, f"providerOptions has {TENSORRT}, which is not among"),
        ({"externalData": ["../../etc/passwd"]}, "externalData is"),
        ({"externalData": "model.onnx.data"}, "externalData is"),
        ({"versions": 1}, "versions is 1"),
        ({"swap": "sometime"}, 'swap is "sometime", it must be one of beside, after-release'),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_what_it_must_be(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse({**PLAIN, **change})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ValueError, match="it has no threads"):
        parse({name: value for name, value in PLAIN.items() if name != "threads"})


def test_a_refused_manifest_is_the_models_fault(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m", threads=0)
    with pytest.raises(HealthError, match=r"runtime\.json makes no sense: threads is 0") as refused:
        load(folder)
    assert refused.value.code == "health-crash"


def test_weights_that_are_named_and_not_there_are_the_models_fault(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m", externalData=["model.onnx.data"])
    with pytest.raises(HealthError, match=r"names model\.onnx\.data, which is not beside the model"):
        read(folder)


def test_providers_keep_their_order_and_their_options() -> None:
    settings = tensorrt(trt_fp16_enable="True")
    assert settings.providers_of(WithTensorRt, None) == [(TENSORRT, {"trt_fp16_enable": "True"}), CPU]
    assert settings.providers_of(onnxruntime, None) == [CPU]


def test_the_agent_says_where_an_engine_is_kept(tmp_path: Path) -> None:
    settings = tensorrt(
        trt_engine_cache_enable="True", trt_engine_cache_path="/etc", trt_timing_cache_enable="True"
    )
    caches = tmp_path / "engines" / "ab12"
    caches.mkdir(parents=True)
    [(_, options), _] = settings.providers_of(WithTensorRt, caches)
    assert options == {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(caches),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(caches),
    }


def test_a_session_makes_no_folder_of_its_own_that_the_agent_could_not_remove(tmp_path: Path) -> None:
    settings = tensorrt(trt_engine_cache_enable="True", trt_fp16_enable="True")
    [(_, options), _] = settings.providers_of(WithTensorRt, tmp_path / "engines" / "ab12")
    assert options == {"trt_fp16_enable": "True"}
    assert not (tmp_path / "engines").exists()


def test_what_is_built_from_a_model_is_for_those_who_may_read_the_model(tmp_path: Path) -> None:
    store = Store(tmp_path, Disk())
    keeps = {"providers": [TENSORRT], "providerOptions": {TENSORRT: {"trt_engine_cache_enable": "True"}}}
    for digit, mode, told in (("1", 0o755, keeps), ("2", 0o750, keeps), ("3", 0o755, {})):
        entry = store.path(f"sha256:{digit * 64}")
        entry.mkdir(parents=True)
        (entry / "runtime.json").write_text(json.dumps({**PLAIN, **told}))
        entry.chmod(mode)
        store.keep_cache(f"sha256:{digit * 64}")
        assert (caches_of(entry) or tmp_path).is_dir() == bool(told), "only where a provider builds something"
        if told:
            assert (store.engines / entry.name).stat().st_mode & 0o777 == mode
    assert store.engines.stat().st_mode & 0o777 == 0o755
    store.keep_cache("sha256:" + "4" * 64)
    assert not (store.engines / ("4" * 64)).exists(), "it is not installed"


def test_where_nothing_may_be_written_the_engine_is_built_every_time(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file is in the way")
    settings = tensorrt(trt_engine_cache_enable="True", trt_fp16_enable="True")
    for caches in (None, tmp_path / "engines" / "ab12"):
        [(_, options), _] = settings.providers_of(WithTensorRt, caches)
        assert options == {"trt_fp16_enable": "True"}


def test_an_artifact_names_no_place_on_this_device_and_no_code_to_load(tmp_path: Path) -> None:
    given = {
        "trt_extra_plugin_lib_paths": "/tmp/a.so",
        "trt_onnx_model_folder_path": "/",
        "cache_dir": "/etc",
    }
    settings = tensorrt(**given, trt_fp16_enable="True", trt_engine_cache_enable="1")
    [(_, options), _] = settings.providers_of(WithTensorRt, None)
    assert options == {"trt_fp16_enable": "True"}
    config = {"ep.context_file_path": "/etc/passwd", "session.intra_op.allow_spinning": "0"}
    opened = parse({**PLAIN, "sessionConfig": config}).session_options(onnxruntime)
    assert opened.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    with pytest.raises(RuntimeError):
        opened.get_session_config_entry("ep.context_file_path")


def test_a_range_of_versions_that_is_none_is_the_models_fault(tmp_path: Path) -> None:
    folder = onnx_artifact.write(tmp_path / "m", versions="latest")
    with pytest.raises(HealthError, match="makes no sense: not a version clause: 'latest'") as refused:
        load(folder)
    assert refused.value.code == "health-crash"


def test_engines_lie_beside_the_store_under_the_artifacts_digest(tmp_path: Path) -> None:
    assert caches_of(tmp_path / "store" / "ab12") == tmp_path / "engines" / "ab12"
    assert caches_of(tmp_path / "somewhere" / "ab12") is None


def test_figures_nobody_can_expect_are_ignored() -> None:
    endless = {"loadMs": float("inf"), "memoryBytes": 10**400}
    for told in (None, 3, {"loadMs": "soon"}, {"loadMs": -1, "memoryBytes": True}, endless):
        assert parse({**PLAIN, "expected": told}).expected == {}
    assert parse({**PLAIN, "expected": {"loadMs": 3}}).expected == json.loads('{"loadMs": 3.0}')


def test_an_engine_goes_with_its_artifact(tmp_path: Path) -> None:
    kept, gone = "1" * 64, "2" * 64
    for digest in (kept, gone):
        (tmp_path / "engines" / digest).mkdir(parents=True)
        (tmp_path / "engines" / digest / "model.engine").write_bytes(b"built here")
    Store(tmp_path, Disk()).collect([f"sha256:{kept}"])
    assert [entry.name for entry in (tmp_path / "engines").iterdir()] == [kept]
