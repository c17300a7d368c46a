"""The agent's Debian package: built for another processor, unpacked there, and used from a stick to an answer."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cryptography
import pytest

from e2e.journey import MODEL, PI, Journey
from edgewright.bench.target.emulator import STACK_BYTES, emulated_target
from edgewright.bench.target.processor import Core, lay_out, nearest
from edgewright.bench.target.userland import USERLANDS, targets_cache
from real import NOTHING_MAY_BE_SKIPPED, ROOT, require, require_target

PACKAGING = ROOT / "agent" / "packaging"
UNITS = ("edgewright-agent.service", "edgewright-agent-once.service")


def build(folder: Path, arch: str, wheels: Path, umask: int = 0o022) -> Path:
    """Build the package as the guide says, as somebody with this umask."""
    done = subprocess.run(
        [
            sys.executable, str(PACKAGING / "build_deb.py"), "--arch", arch, "--out", str(folder),
            "--wheels", str(wheels),
        ],
        capture_output=True, text=True, timeout=300, check=False, umask=umask,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@dataclass(frozen=True)
class Board:
    """A device of another processor: the package unpacked, and a Python of that processor to run it."""

    root: Path
    python: Path

    def agent(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program that the package puts into /usr/bin, as it is but for where it lies."""
        launcher = (self.root / "usr/bin/edgewright-agent").read_text()
        moved = launcher.replace("/usr/lib/", f"{self.root}/usr/lib/").replace(
            "/etc/default", f"{self.root}/etc/default"
        )
        return subprocess.run(
            ["/bin/sh", "-c", moved, "edgewright-agent", *words],
            env={"PATH": os.defpath, "EDGEWRIGHT_PYTHON": str(self.python), "HOME": "/nonexistent"},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package for 64-bit ARM."""
    folder = tmp_path_factory.mktemp("package")
    return build(folder, "arm64", folder / "wheels")


@pytest.fixture(scope="module")
def board(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Board:
    """An emulated board with the package on it, and the inference engine of its userland."""
    require_target("arm64")
    return emulated("arm64", package, tmp_path_factory.mktemp("board"))


def emulated(name: str, package: Path, folder: Path) -> Board:
    """Put a package on an emulated board of a target's processor."""
    cache = targets_cache()
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "root")], check=True)
    userland = USERLANDS[name]
    core = Core(name, nearest(name, "", ()), "", 4)
    target = emulated_target(core, cache)
    assert target.installed is not None
    userland_root = folder / "userland"
    userland_root.mkdir()
    lay_out(core, target.installed.root, userland_root)
    # The emulator starts programs of its own processor only when told how: the guest's sys.executable is this script.
    python = folder / "python3"
    guest = {**target.guest, "PYTHONHOME": str(userland_root / "usr"), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [
        *target.command, "-L", str(userland_root), "-U", "LD_LIBRARY_PATH", "-s", str(STACK_BYTES), "-0", str(python),
        *(word for name, value in guest.items() for word in ("-E", f"{name}={value}")),
    ]  # fmt: skip
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in target.environment.items()
                      if name not in ("PATH", "HOME"))  # fmt: skip
    site = userland_root / userland.site
    python.write_text(
        f"#!/bin/sh\n{exports}"
        f"exec {shlex.join(words)} -E PYTHONPATH=\"${{PYTHONPATH:-}}:{site}\" "
        f"{shlex.quote(str(userland_root / userland.python))} \"$@\"\n"
    )  # fmt: skip
    python.chmod(0o755)
    return Board(folder / "root", python)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_same_commit_gives_the_same_package(package: Path, tmp_path: Path, umask: int) -> None:
    again = build(tmp_path, "arm64", package.parent / "wheels", umask)
    assert again.read_bytes() == package.read_bytes()


def test_every_user_may_read_what_the_package_brings(package: Path, tmp_path: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "-c", str(package)], capture_output=True, text=True, check=True)
    modes = {line.split()[5]: line.split()[0] for line in listed.stdout.splitlines()}
    programs = {name for name, mode in modes.items() if mode == "-rwxr-xr-x"}
    assert programs == {"./usr/bin/edgewright-agent"}
    rest = {mode for name, mode in modes.items() if name not in programs}
    assert rest == {"drwxr-xr-x", "-rw-r--r--"}
    subprocess.run(["dpkg-deb", "-e", str(package), str(tmp_path / "control")], check=True)
    assert all(
        (tmp_path / "control" / name).stat().st_mode & 0o111 for name in ("postinst", "prerm", "postrm")
    )


def test_what_a_package_puts_on_a_device_stays_below_thirty_megabytes(package: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "-c", str(package)], capture_output=True, text=True, check=True)
    sizes = [int(line.split()[2]) for line in listed.stdout.splitlines()]
    assert sum(sizes) < 30_000_000
    assert all(line.split()[1] == "root/root" for line in listed.stdout.splitlines())


def test_a_virtual_environment_of_any_python_from_311_on_can_verify(package: Path) -> None:
    """cffi's compiled part is for one Python each, and Debian's is no virtual environment's."""
    listed = subprocess.run(["dpkg-deb", "-c", str(package)], capture_output=True, text=True, check=True)
    backends = re.findall(
        r"vendor/_cffi_backend\.cpython-(\d+)-aarch64-linux-gnu\.so$", listed.stdout, re.MULTILINE
    )
    assert backends == ["311", "312", "313", "314"]
    compiled = {line.rsplit("/", 1)[1] for line in listed.stdout.splitlines() if line.endswith(".so")}
    others = {name for name in compiled if not name.startswith("_cffi_backend.")}
    assert all(name.endswith(".abi3.so") for name in others), others


def test_where_no_cffi_comes_along_doctor_says_what_the_python_lacks(built: Journey, tmp_path: Path) -> None:
    """32-bit ARM, and a Python that does not see Debian's python3-cffi-backend."""
    require_target("armv7")
    package = build(tmp_path, "armhf", tmp_path / "wheels")
    board = emulated("armv7", package, tmp_path)
    config = tmp_path / "agent.json"
    config.write_text(json.dumps({
        "version": 1, "device": {"id": "pi-7", "class": PI}, "source": {"url": "oci:/media/usb"},
        "trust": {"root": str(built.root_metadata())}, "state": str(tmp_path / "state"),
    }))  # fmt: skip
    looked = board.agent("doctor", "--config", str(config), "--offline", "--json")
    assert looked.returncode == 3, looked.stdout + looked.stderr
    assert looked.stdout, looked.stderr
    (software,) = (
        f for f in json.loads(looked.stdout)["findings"] if f["what"] == "software" and f["level"] == "fail"
    )
    assert "_cffi_backend" in software["message"]
    assert "--system-site-packages" in software["remedy"]
    tried = board.agent(
        "init", "--device-id", "pi-7", "--class", PI, "--source", "oci:/media/usb",
        "--root", str(built.root_metadata()), "--key", str(built.fleet / ".edgewright/keys/signing.pub"),
        "--state", str(tmp_path / "state"), "--out", str(config), "--force",
    )  # fmt: skip
    assert tried.returncode == 3, tried.stderr
    assert "Traceback" not in tried.stderr
    assert "edgewright-agent doctor" in tried.stderr


def test_the_package_for_another_processor_runs_there(board: Board) -> None:
    told = board.agent("--version")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("edgewright-agent ")


def test_an_emulated_board_goes_from_a_stick_to_an_answer(
    board: Board, built: Journey, tmp_path: Path
) -> None:
    stick = tmp_path / "stick.tar"
    made = built.edgewright("bundle", "create", "--group", "all", "--class", PI, "--out", str(stick))
    assert made.returncode == 0, made.stderr
    config = tmp_path / "agent.json"
    begun = board.agent(
        "init", "--device-id", "pi-7", "--class", PI, "--source", "oci:/media/usb",  # the userland has no TLS
        "--root", str(built.root_metadata()), "--key", str(built.fleet / ".edgewright/keys/signing.pub"),
        "--state", str(tmp_path / "state"), "--out", str(config),
    )  # fmt: skip
    assert begun.returncode == 0, begun.stdout + begun.stderr
    done = board.agent("install", "--config", str(config), str(stick))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{MODEL}  installed  1.0.0" in done.stdout
    answered = board.agent("infer", "--config", str(config), MODEL)
    assert answered.returncode == 0 and "golden sample" in answered.stdout, answered.stderr
    looked = board.agent("doctor", "--config", str(config), "--offline", "--json")
    findings = {finding["what"]: finding for finding in json.loads(looked.stdout)["findings"]}
    assert looked.returncode == 0, looked.stdout
    assert findings[MODEL]["level"] == "ok" and "onnxruntime" in findings["engine"]["message"]


@dataclass(frozen=True)
class Desk:
    """A device with the package's directories: that of the configuration is root's, that of the state the agent's."""

    conf: Path
    state: Path
    python: str
    uid: int = 54321  # of no account

    def agent(self, *words: str, uid: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command as root, which lets nobody read what it makes, or as another user."""
        site = Path(cryptography.__file__).parent.parent
        return subprocess.run(
            [self.python, "-m", "edgewright_agent", *words], user=uid, group=uid, extra_groups=[], umask=0o077, cwd="/",
            env={"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'agent'}:{site}", "PYTHONDONTWRITEBYTECODE": "1",
                 "EDGEWRIGHT_AGENT_CONFIG": str(self.conf / "agent.json")},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def init(self, source: str, *words: str, uid: int = 0) -> subprocess.CompletedProcess[str]:
        return self.agent(
            "init", "--device-id", "pi-7", "--class", PI, "--source", source, "--root", str(self.conf / "1.root.json"),
            "--key", str(self.conf / "signing.pub"), "--state", str(self.state), "--out", str(self.conf / "agent.json"),
            *words, uid=uid,
        )  # fmt: skip

    def foreign(self) -> list[Path]:
        """Return what in the state directory the agent's user does not own."""
        return [path for path in (self.state, *self.state.rglob("*")) if path.lstat().st_uid != self.uid]


@pytest.fixture
def desk(built: Journey) -> Iterator[Desk]:
    if os.geteuid() != 0:
        reason = "only root becomes another user"
        pytest.fail(reason) if NOTHING_MAY_BE_SKIPPED else pytest.skip(reason)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    usable = [python for python in (sys.executable, f"/usr/bin/python{version}") if _anybodys(python)]
    if not usable:
        reason = f"no Python {version} on this machine that every user may run"
        pytest.fail(reason) if NOTHING_MAY_BE_SKIPPED else pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="desk-", dir="/tmp") as folder:  # pytest's are for one user only
        Path(folder).chmod(0o755)
        yield _set_up(Desk(Path(folder, "etc"), Path(folder, "var"), usable[0]), built)


def _set_up(made: Desk, built: Journey) -> Desk:
    made.conf.mkdir(mode=0o755)
    made.state.mkdir(mode=0o755)
    os.chown(made.state, made.uid, made.uid)
    for name, source in (("1.root.json", built.root_metadata()),
                         ("signing.pub", built.fleet / ".edgewright/keys/signing.pub")):  # fmt: skip
        (made.conf / name).write_bytes(source.read_bytes())
        (made.conf / name).chmod(0o644)
    return made


def _anybodys(python: str) -> bool:
    return not subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c ""', python], user=54321, group=54321, extra_groups=[], cwd="/",
        capture_output=True, check=False,
    ).returncode  # fmt: skip


def test_what_root_does_by_hand_leaves_the_device_to_the_agents_user(desk: Desk, built: Journey) -> None:
    stick = desk.conf / "stick.tar"
    made = built.edgewright("bundle", "create", "--group", "all", "--class", PI, "--out", str(stick))
    assert made.returncode == 0, made.stderr
    stick.chmod(0o644)
    begun = desk.init(f"bundle:{stick}")
    assert begun.returncode == 0, begun.stderr
    for words in (["once"], ["factory", MODEL], ["pin", MODEL], ["unpin", MODEL], ["metered", "on"],
                  ["metered", "auto"], ["install", str(stick)], ["infer", MODEL], ["status"]):  # fmt: skip
        done = desk.agent(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert desk.foreign() == [], words
    for uid in (0, desk.uid):
        assert desk.agent("once", uid=uid).returncode == 0
        looked = desk.agent("doctor", "--offline", "--json", uid=uid)
        found = [f for f in json.loads(looked.stdout)["findings"] if f["level"] == "fail"]
        assert found == [], found
    assert desk.foreign() == []
    (desk.conf / "agent.json").chmod(0o600)
    looked = desk.agent("doctor", "--offline", "--json")
    (found,) = (f for f in json.loads(looked.stdout)["findings"] if f["what"] == "configuration")
    assert (found["level"], found["remedy"]) == ("fail", f"chmod a+r {desk.conf / 'agent.json'}")


def test_a_prepared_device_is_anchored_by_root_for_the_agents_user(desk: Desk) -> None:
    assert desk.init("oci:/media/usb", "--no-state").returncode == 0
    for told in ("the record has begun", "the record is there"):
        done = desk.agent("anchor")
        assert done.returncode == 0 and told in done.stdout, done.stderr
    assert desk.foreign() == []
    assert {path.name for path in desk.conf.iterdir()} == {"agent.json", "1.root.json", "signing.pub"}


def test_what_the_agents_user_may_not_read_is_told_by_init(desk: Desk) -> None:
    (desk.conf / "signing.pub").chmod(0o600)
    refused = desk.init("oci:/media/usb")
    assert refused.returncode == 1
    assert f"{desk.conf / 'signing.pub'} belongs to root, and this is {desk.uid}" in refused.stderr
    assert not (desk.conf / "agent.json").exists() and list(desk.state.iterdir()) == []


def test_a_key_of_the_device_is_its_agents_alone(desk: Desk) -> None:
    key = desk.state / "identity/device.key"
    done = desk.agent("identity", "create", "--key", str(key))
    assert done.returncode == 0, done.stderr
    assert desk.foreign() == [] and key.stat().st_mode & 0o777 == 0o600


def test_who_may_not_is_told_whose_it_is(desk: Desk) -> None:
    begun = desk.init("oci:/media/usb", uid=desk.uid)
    assert (
        f"{desk.conf} belongs to root, and this is {desk.uid}: let that user in, or run as root"
        in begun.stderr
    )
    assert desk.init("oci:/media/usb", "--force").returncode == 0
    os.chown(desk.state / "lock", 0, 0)  # as an earlier agent left it
    kept_out = desk.agent("once", uid=desk.uid)
    assert kept_out.returncode == 3
    assert (
        f"{desk.state / 'lock'} belongs to root, and this is {desk.uid}: chown -R {desk.uid} {desk.state}"
        in kept_out.stderr
    )


@pytest.mark.parametrize("unit", [*UNITS, "edgewright-agent.timer"])
def test_systemd_takes_the_units(unit: str, tmp_path: Path) -> None:
    program = require("systemd-analyze")
    for source in (PACKAGING / "systemd").iterdir():
        text = source.read_text().replace("/usr/bin/edgewright-agent", "/bin/true")
        (tmp_path / source.name).write_text(text)
    own = program.parent.parent / "pkg/systemd-analyze"  # where the machine has none of systemd's own units
    units = f"{own}/lib/systemd/system:{own}/usr/lib/systemd/system:"
    checked = subprocess.run(
        [str(program), "verify", "--man=no", str(tmp_path / unit)],
        capture_output=True, text=True, check=False, env=os.environ | {"SYSTEMD_UNIT_PATH": units},
    )  # fmt: skip
    about = [line for line in checked.stderr.splitlines() if "edgewright" in line]
    assert checked.returncode == 0 and about == [], checked.stderr


def test_a_poll_by_hand_does_not_stop_the_service_that_runs() -> None:
    """Only what starts polls for ever excludes it: a unit that conflicts with a service stops that, and for good."""
    conflicts = {}
    for path in sorted((PACKAGING / "systemd").iterdir()):
        found = re.findall(r"^Conflicts=(.*)$", path.read_text(), re.MULTILINE)
        conflicts[path.name] = found
    assert conflicts == {
        "edgewright-agent-once.service": [],
        "edgewright-agent.service": ["edgewright-agent.timer"],
        "edgewright-agent.timer": ["edgewright-agent.service"],
    }


def test_both_services_are_hardened_alike_and_keep_what_the_agent_needs() -> None:
    sections = []
    for name in UNITS:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read(PACKAGING / "systemd" / name)
        own = {"Type", "ExecStart", "ExecReload", "Restart", "RestartSec", "WatchdogSec", "KillMode",
               "TimeoutStopSec", "TimeoutStartSec"}  # fmt: skip
        sections.append({key: value for key, value in parser["Service"].items() if key not in own})
    assert sections[0] == sections[1]
    needed = {
        "NoNewPrivileges": "true", "ProtectSystem": "strict", "StateDirectory": "edgewright",
        "OOMPolicy": "continue", "CapabilityBoundingSet": "",
    }  # fmt: skip
    assert needed.items() <= sections[0].items()
