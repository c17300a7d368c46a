"""The pipeline's promises, asked of the command line."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.journey import MODEL, PI, PROGRAMS, Journey
from real import Registry, Tool


def made(output: str) -> list[tuple[str, str]]:
    """Return (stage, class) of every step a run reports."""
    found = re.findall(rf"\] {MODEL} · (\S+)(?: · (\S+))?", output)
    return [(stage, name) for stage, name in found]


def test_a_run_with_nothing_to_do_imports_no_heavy_library(built: Journey) -> None:
    program = (
        "import sys; sys.argv = ['edgewright', 'run']\n"
        "from edgewright.cli import main\nmain()\n"
        "heavy = {'dagster', 'torch', 'onnx', 'onnxruntime', 'tuf', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=built.fleet, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing to do" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_one_changed_hardware_file_runs_only_that_class(built: Journey) -> None:
    built.edit(f"hardware/{PI}.yaml", r"^(\s+threads:) \d+", r"\1 1")
    done = built.edgewright("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name for stage, name in made(done.stdout) if stage != "index"} == {PI}
    assert ("exported", PI) not in made(done.stdout)


def test_the_same_inputs_give_the_same_digests_in_another_folder(built: Journey, tmp_path: Path) -> None:
    again = Journey.start(tmp_path / "elsewhere")
    keys = again.fleet / ".edgewright" / "keys"
    keys.parent.mkdir()
    subprocess.run(["cp", "-r", str(built.fleet / ".edgewright/keys"), str(keys)], check=True)
    done = again.edgewright("run", PYTHONHASHSEED="7", TZ="Asia/Kathmandu", OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stdout + done.stderr

    def artifacts(journey: Journey) -> dict[str, str]:
        return {
            step["hardwareClass"]: step["facts"]["digest"]
            for step in journey.plan()
            if step["stage"] == "packaged"
        }

    assert len(artifacts(built)) == 5
    assert artifacts(again) == artifacts(built)


def test_a_missed_limit_blocks_its_lane_and_only_its_lane(built: Journey) -> None:
    built.edit(f"hardware/{PI}.yaml", r"^(\s+artifactSize:) .*$", r"\1 12kB")
    done = built.edgewright("run")
    assert done.returncode == 2
    line = next(text for text in done.stdout.splitlines() if "misses" in text)
    assert line.split()[:3] == [MODEL, PI, "blocked"]
    assert re.search(r"artifact-size .* misses 12\.0 kB \(hardware/raspberry-pi-4\.yaml:\d+\)", line)
    assert not any(step["state"] == "run" for step in built.plan())
    released = built.edgewright("release")
    assert released.returncode == 0, released.stderr
    assert PI in released.stdout, "a release says which class is held back"


def test_asking_for_the_signed_asset_alone_is_refused_by_the_sign_step(built: Journey) -> None:
    built.edit(f"hardware/{PI}.yaml", r"^(\s+artifactSize:) .*$", r"\1 12kB")
    assert built.edgewright("run").returncode == 2
    select = f"key:digit_reader/signed/{PI.replace('-', '_')}"
    done = subprocess.run(
        [
            str(PROGRAMS / "dagster"),
            "asset",
            "materialize",
            "-m",
            "edgewright.assets.definitions",
            "--select",
            select,
        ],
        cwd=built.fleet,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": os.environ.get(
                "PYTHONPATH", ""
            ),  # the checkout that is tested, wherever it is installed from
            "DAGSTER_HOME": str(built.fleet / ".edgewright" / "dagster"),
        },
    )
    assert done.returncode != 0
    assert "gate" in done.stdout + done.stderr
    assert "artifact-size" in done.stdout + done.stderr
    state = {step["stage"]: step["state"] for step in built.plan() if step["hardwareClass"] == PI}
    assert (state["gated"], state["signed"], state["published"]) == ("cached", "blocked", "blocked")


def test_cosign_and_oras_accept_what_a_real_registry_holds(
    on_registry: tuple[Journey, Registry], cosign: Tool, oras: Tool, tmp_path: Path
) -> None:
    published, registry = on_registry
    key = published.fleet / ".edgewright/keys/signing.pub"
    reference = f"{registry.host}/acme/{MODEL}@{published.digest()}"
    flags = ("--key", key, "--insecure-ignore-tlog=true", "--allow-http-registry")
    done = cosign("verify", *flags, reference)
    assert done.returncode == 0, done.stderr
    done = cosign("verify", *flags, f"{registry.host}/acme/{MODEL}:1.0.0")
    assert done.returncode == 0, done.stderr
    kind = "https://edgewright.dev/gate-report/v1"
    done = cosign("verify-attestation", "--type", kind, *flags, reference)
    assert done.returncode == 0, done.stderr
    done = oras("pull", "--plain-http", "-o", tmp_path / "pulled", reference)
    assert done.returncode == 0, done.stderr
    assert {"model.onnx", "runtime.json", "golden.json"} <= {
        path.name for path in (tmp_path / "pulled").iterdir()
    }


YAML = f"models/{MODEL}/model.yaml"
MISTAKES = {
    "broken YAML": (
        lambda j: (j.fleet / "fleet.yaml").write_text("version: 1\n  name: x\n"),
        1,
        "fleet.yaml:2:",
    ),
    "unknown class": (lambda j: j.edit(YAML, r"\Z", "classes: [raspberry-pi-5]\n"), 1, "raspberry-pi-4"),
    "missing checkpoint": (
        lambda j: (j.fleet / YAML).with_name("weights.safetensors").unlink(),
        1,
        "weights",
    ),
    "wrong sha256": (lambda j: j.edit(YAML, r'sha256: "?[0-9a-f]{4}', 'sha256: "beef'), 1, "sha256"),
    "no keys": (lambda j: (j.fleet / ".edgewright/keys/signing.pub").unlink(), 3, "edgewright keys init"),
    "registry down": (
        lambda j: j.edit("fleet.yaml", r"url: .*$", "url: http://127.0.0.1:9/x"),
        3,
        "127.0.0.1:9",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_bad_input_gives_one_clear_message(built: Journey, mistake: str) -> None:
    spoil, code, says = MISTAKES[mistake]
    before = sorted(path for path in built.layouts.rglob("*") if path.is_file())
    spoil(built)
    done = built.edgewright("run")
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(path for path in built.layouts.rglob("*") if path.is_file()) == before


def test_a_full_disk_is_said_and_the_next_run_completes(built: Journey) -> None:
    built.edit(f"hardware/{PI}.yaml", r"^(\s+threads:) \d+", r"\1 1")
    limit = (4096, 4096)
    done = subprocess.run(
        [str(PROGRAMS / "edgewright"), "run"],
        cwd=built.fleet,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert built.edgewright("run").returncode == 0


def test_plan_as_json_names_every_step(built: Journey) -> None:
    document = json.loads(built.edgewright("plan", "--json").stdout)
    assert document["version"] == 1
    assert len(document["steps"]) == 2 + 5 * 9 + 1
    assert {step["state"] for step in document["steps"]} == {"cached"}


def test_a_model_without_a_checkpoint_is_trained_by_the_pipeline(tmp_path: Path) -> None:
    journey = Journey.start(tmp_path)
    file = journey.fleet / YAML
    head, _, tail = file.read_text().partition("checkpoint:")
    train = "train:\n  entry: train:fit\n  seed: 7\nclasses: [raspberry-pi-4]\n"
    file.write_text(head + train + tail[tail.index("\nsignature:") :])
    journey.edit(YAML, r"width: \d+", "width: 8")
    journey.edit(
        YAML, r"^  floor: .*$", "  floor: 0.9"
    )  # half the network, and the training of another processor
    assert journey.edgewright("keys", "init").returncode == 0
    done = journey.edgewright("run")
    assert "trained by train:fit" in done.stdout
    assert (journey.layouts / MODEL / "index.json").exists(), done.stdout + done.stderr


def test_a_registry_that_lost_everything_is_filled_again(built: Journey) -> None:
    digest = built.digest()
    shutil.rmtree(built.layouts)
    done = built.edgewright("release")
    assert done.returncode == 1
    assert "edgewright run --republish" in done.stderr
    assert built.edgewright("run", "--republish").returncode == 0
    assert built.digest() == digest
    done = built.edgewright("release")
    assert done.returncode == 0, done.stderr
    device = built.enroll("pump-7")
    assert built.agent(device, "once").returncode == 0
