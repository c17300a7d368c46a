"""`edgewright demo`: the whole path on this machine, told step by step.

Every line that starts with `$` is a command anyone can type; the demo runs exactly that, as its own process, against a
real `docker-registry` and real agents in a folder of their own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from edgewright.cli.options import root_option
from edgewright.errors import EdgewrightError, EnvironmentFault, SpecError

DEVICES: Mapping[str, tuple[str, dict[str, str]]] = {
    "line-1-camera": ("jetson-vision-standard", {"line": "inspection"}),
    "pump-7": ("raspberry-pi-4", {"role": "condition-monitoring", "line": "inspection"}),
    "cart-3": ("medical-cart-cpu", {"line": "inspection"}),
}
MODELS = ("bearing-anomaly", "digit-reader", "vibration-monitor")
CLASSES = ("intel-lowpower-detector", *(hardware_class for hardware_class, _ in DEVICES.values()))
"""Those that are told about; the rest of the fleet would only take time."""
_SECTIONS = 10
_CAST = (
    *(f"models/{model}/model.yaml" for model in MODELS),
    *(f"hardware/{hardware_class}.yaml" for hardware_class in CLASSES),
)


class Unexpected(EdgewrightError):
    """A step of the demo did not end as it should: a defect, not a surprise of the story."""


@dataclass
class Stage:
    """The folder in which the demo plays, and the commands it types."""

    folder: Path
    registry: str
    section: int = 0

    @property
    def fleet(self) -> Path:
        """The fleet's repository."""
        return self.folder / "fleet"

    def title(self, text: str) -> None:
        """Announce the next section."""
        self.section += 1
        click.echo(f"\n{click.style(f'{self.section}/{_SECTIONS}  {text}', bold=True)}")

    def say(self, text: str) -> None:
        """Say something between commands."""
        click.echo(click.style(f"   {text}", fg="cyan"))

    def type(self, line: str, expect: int = 0, show: bool = True) -> str:
        """Run one command as a process of its own and return what it printed.

        Raises:
            Unexpected: it ended with another exit code than `expect`.
        """
        if show:
            click.echo(click.style(f"   $ {line}", dim=True))
        words = shlex.split(line)
        program = shutil.which(words[0], path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
        if program is None:
            raise EnvironmentFault(f"`{words[0]}` is not installed", hint="make demo installs everything")
        output: list[str] = []
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with (
            subprocess.Popen(  # noqa: S603 - the demo's own commands
                [program, *words[1:]],
                cwd=self.fleet,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process
        ):
            for text in process.stdout or ():
                output.append(text)
                if show:
                    click.echo(f"     {text}", nl=False)
        if process.returncode != expect:
            if not show:
                click.echo("".join(output))
            raise Unexpected(f"`{line}` ended with exit code {process.returncode}, expected {expect}")
        return "".join(output)

    def edit(self, file: str, pattern: str, replacement: str) -> None:
        """Change one line of YAML, the way a pull request would, and show the difference."""
        path = self.fleet / file
        before = path.read_text()
        after, count = re.subn(pattern, replacement, before, count=1, flags=re.MULTILINE)
        if count != 1:
            raise Unexpected(f"{file} has no line that matches {pattern}")
        path.write_text(after)
        for number, (old, new) in enumerate(zip(before.splitlines(), after.splitlines(), strict=True), 1):
            if old != new:
                click.echo(f"     {file}:{number}")
                click.echo(click.style(f"     - {old.strip()}", fg="red"))
                click.echo(click.style(f"     + {new.strip()}", fg="green"))


@click.command()
@root_option
@click.option("--keep/--no-keep", default=True, help="Keep the folder afterwards, to look around.")
def command(root: Path, keep: bool) -> None:
    """Show the whole path on this machine, from YAML to devices."""
    missing = [name for name in _CAST if not (root / name).is_file()]
    if missing:
        raise SpecError(
            f"the demo tells its story with Edgewright's own fleet; {missing[0]} is not here",
            hint="run it in a checkout of Edgewright's repository",
        )
    began = time.monotonic()
    folder = root / ".edgewright" / "demo"
    if folder.exists():
        shutil.rmtree(folder)
    with _registry(root, folder) as address:
        stage = Stage(folder, address)
        _copy_fleet(root, stage)
        _tell(stage)
    click.echo(
        f"\nThe whole story took {time.monotonic() - began:.0f} s. Everything is in {folder.relative_to(root)}/."
    )
    click.echo("Next: make ui (this fleet in Dagster) · edgewright plan · README.md")
    if not keep:
        shutil.rmtree(folder)


def _tell(stage: Stage) -> None:
    stage.title("Four hardware classes and three models, written down as YAML and checked")
    stage.type("edgewright validate")
    stage.type("edgewright keys init")

    stage.title("The plan: which lanes must be built, and why")
    stage.type("edgewright plan")

    stage.title("Build, measure, gate, sign and publish every lane to a real registry")
    stage.type("edgewright run")
    stage.type("edgewright release")
    _check_with_other_tools(stage)

    stage.title("What was tried for one lane, and why it got this artifact")
    stage.say("all of it in int8 is a quarter of the size and of no use; mixed precision saves it")
    stage.type("edgewright optimize bearing-anomaly --class raspberry-pi-4")

    stage.title("Three devices of different classes install and answer")
    for device, (hardware_class, labels) in DEVICES.items():
        _enroll(stage, device, hardware_class, labels)
        _agent(stage, device, "once")
        _agent(stage, device, f"infer {'vibration-monitor' if 'role' in labels else 'digit-reader'}")
    stage.say("and asked again, nothing is fetched: one conditional request")
    _agent(stage, "pump-7", "once")

    stage.title("A one-line change rebuilds only the lanes it touches")
    stage.edit("hardware/raspberry-pi-4.yaml", r"^(\s+threads:) \d+", r"\1 2")
    stage.type("edgewright run")
    stage.type("edgewright release")
    _agent(stage, "pump-7", "once")
    _agent(stage, "cart-3", "once")

    stage.title("A lane that misses its limit is blocked, and says why; the others go on")
    stage.edit("hardware/intel-lowpower-detector.yaml", r"^(\s+artifactSize:) .*$", r"\1 12kB")
    stage.type("edgewright run", expect=2)
    stage.say("asking for the signature alone does not help: the sign step itself refuses")
    _sign_alone(stage)

    stage.title("A better, bigger network passes every gate …")
    stage.edit("models/digit-reader/model.yaml", r"^modelVersion: .*$", "modelVersion: 1.1.0")
    stage.edit("models/digit-reader/model.yaml", r"width: \d+", "width: 64")
    stage.type("edgewright train digit-reader --write")
    stage.type("edgewright run", expect=2)
    stage.type("edgewright release")

    stage.title("… but one device cannot carry it, and rolls back by itself")
    stage.say("cart-3 shares its memory with other software: its integrator gave models a smaller budget")
    _budget(stage, "cart-3")
    _agent(stage, "cart-3", "once", expect=2)
    _agent(stage, "cart-3", "infer digit-reader")
    _agent(stage, "line-1-camera", "once")
    _agent(stage, "pump-7", "once")

    stage.title("What every device runs now")
    _summary(stage)


def _copy_fleet(root: Path, stage: Stage) -> None:
    stage.fleet.mkdir(parents=True)
    (stage.fleet / "hardware").mkdir()
    for hardware_class in CLASSES:
        shutil.copy(root / f"hardware/{hardware_class}.yaml", stage.fleet / "hardware")
    for model in MODELS:
        folder = f"models/{model}"
        shutil.copytree(root / folder, stage.fleet / folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = with_models((root / "fleet.yaml").read_text(), MODELS)
    (stage.fleet / "fleet.yaml").write_text(
        re.sub(r"^(\s+url:) .*$", rf"\1 {stage.registry}/edgewright", text, count=1, flags=re.MULTILINE)
    )
    # the demo's own cache and Dagster instance, so that it always starts from nothing
    os.environ["EDGEWRIGHT_CACHE"] = str(stage.folder / "cache")
    os.environ["DAGSTER_HOME"] = str(stage.folder / "dagster")


def with_models(text: str, models: Collection[str]) -> str:
    """Return a `fleet.yaml` whose groups name only some models.

    >>> with_models("models:\\n  - model: seen\\n  - model: other # and why\\n", {"seen"})
    'models:\\n  - model: seen\\n'
    """
    return re.sub(
        r"^ *- model: ([a-z0-9-]+).*\n",
        lambda found: found[0] if found[1] in models else "",
        text,
        flags=re.MULTILINE,
    )


@contextmanager
def _registry(root: Path, folder: Path) -> Iterator[str]:
    """Run a real docker-registry on a free port; yields its address."""
    tools = root / ".edgewright" / "tools" / "bin"
    os.environ["PATH"] = f"{tools}:{os.environ.get('PATH', '')}"
    program = shutil.which("docker-registry")
    if program is None:
        raise EnvironmentFault(
            "docker-registry is not installed", hint="scripts/real-parts fetches it (make demo does)"
        )
    (folder / "registry").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "registry.yml").write_text(json.dumps(config))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [program, "serve", str(folder / "registry.yml")], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise EnvironmentFault("docker-registry did not start", hint="see .edgewright/demo/registry.log")


def _enroll(stage: Stage, device: str, hardware_class: str, labels: Mapping[str, str]) -> None:
    home = stage.folder / "devices" / device
    home.mkdir(parents=True)
    pairs = " ".join(f"--label {name}={value}" for name, value in labels.items())
    root_metadata = sorted((stage.fleet / ".edgewright" / "tuf").glob("*.root.json"))[0]
    stage.say(f"{device} is a {hardware_class}")
    stage.type(
        f"edgewright-agent init --device-id {device} --class {hardware_class} {pairs}"
        f" --source {stage.registry}/edgewright --root {_short(stage, root_metadata)}"
        f" --key .edgewright/keys/signing.pub"
        f" --state {_short(stage, home / 'state')} --out {_short(stage, home / 'agent.json')}"
    )


def _agent(stage: Stage, device: str, words: str, expect: int = 0, show: bool = True) -> str:
    verb, _, rest = words.partition(" ")
    config = _short(stage, stage.folder / "devices" / device / "agent.json")
    return stage.type(f"edgewright-agent {verb} --config {config} {rest}".rstrip(), expect, show)


def _short(stage: Stage, path: Path) -> str:
    return os.path.relpath(path, stage.fleet)


def _budget(stage: Stage, device: str) -> None:
    """Give the device a memory budget a little above what the model it runs now needs."""
    path = stage.folder / "devices" / device / "agent.json"
    config = json.loads(path.read_text())
    status = json.loads(_agent(stage, device, "status --json", show=False))
    used = status["models"]["digit-reader"]["health"]["peakMemoryBytes"]
    config["budget"] = {"peakMemoryBytes": used + 256 * 1024}
    path.write_text(json.dumps(config, indent=2))
    click.echo(
        f"     budget.peakMemoryBytes = {config['budget']['peakMemoryBytes']:,} in {_short(stage, path)}"
    )


def _check_with_other_tools(stage: Stage) -> None:
    """Let cosign and oras, which know nothing of Edgewright, check what was published."""
    lanes = json.loads(stage.type("edgewright run --json", show=False))
    digest = next(
        step["facts"]["digest"]
        for step in lanes["steps"]
        if (step["model"], step["stage"], step["hardwareClass"])
        == ("digit-reader", "published", "raspberry-pi-4")
    )
    reference = f"{stage.registry.removeprefix('http://')}/edgewright/digit-reader@{digest}"
    stage.say("other tools agree:")
    if shutil.which("cosign"):
        stage.type(
            f"cosign verify --key .edgewright/keys/signing.pub --insecure-ignore-tlog=true"
            f" --allow-http-registry {reference} -o text",
        )
    if shutil.which("oras"):
        stage.type(f"oras pull --plain-http -o ../pulled {reference}")


def _sign_alone(stage: Stage) -> None:
    line = (
        "dagster asset materialize -m edgewright.assets.definitions"
        " --select key:digit_reader/signed/intel_lowpower_detector"
    )
    click.echo(click.style(f"   $ {line}", dim=True))
    output = stage.type(line, expect=1, show=False)
    refusal = next((text for text in output.splitlines() if "may not be signed" in text), None)
    if refusal is None:
        raise Unexpected(f"`{line}` did not fail at the gate:\n{output}")
    click.echo(f"     {refusal.strip()}")


def _summary(stage: Stage) -> None:
    rows = [("device", "class", "model", "runs", "digest", "note")]
    for device, (hardware_class, _) in DEVICES.items():
        status = json.loads(_agent(stage, device, "status --json", show=False))
        for model, entry in sorted(status["models"].items()):
            rows.append(
                (
                    device,
                    hardware_class,
                    model,
                    entry["version"],
                    entry["active"][7:19],
                    entry["reason"] or entry["state"],
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo(
            "   " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
