"""Fixtures every test may use, and the rule that with `EDGEWRIGHT_REQUIRE_REAL=1` nothing is skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from attacks import summary as attacks
from authority import Authority, TokenServer
from crash import summary as power_cuts
from private_sigstore.instance import PrivateSigstore
from real import NOTHING_MAY_BE_SKIPPED, ROOT, Registry, Tool, require

USERNAME = "publisher"
PASSWORD = "tests-only"
READER = ("device", "reads-only")

# bcrypt of PASSWORD at the lowest cost: docker-registry takes no other hash, the standard library makes none.
PASSWORD_BCRYPT = "$2b$04$45vM2buTMvAh6nJW5WcRMOU3gNr1MeJ.gHCmt9qAiqNNLOmwDQBjy"

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile(
    "untimed",
    settings(),
    deadline=None,
    suppress_health_check={*settings().suppress_health_check, HealthCheck.too_slow},
)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def run_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test run share; see `shared.made_once`."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """An empty registry that lets everybody do everything."""
    made = Registry(require("docker-registry"), tmp_path / "registry")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def registry_with_basic_auth(tmp_path: Path) -> Iterator[Registry]:
    """An empty registry that asks for `username` and `password` (HTTP basic)."""
    folder = tmp_path / "registry-basic"
    folder.mkdir()
    htpasswd = folder / "htpasswd"
    htpasswd.write_text(f"{USERNAME}:{PASSWORD_BCRYPT}\n")
    made = Registry(
        require("docker-registry"),
        folder,
        auth={"htpasswd": {"realm": "edgewright tests", "path": str(htpasswd)}},
        username=USERNAME,
        password=PASSWORD,
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture
def token_server(authority: Authority) -> Iterator[TokenServer]:
    """The token server behind `registry_with_token_auth`: `publisher` may do all, `device` may pull."""
    with TokenServer(authority, {USERNAME: (PASSWORD, "*"), READER[0]: (READER[1], "pull")}) as server:
        yield server


@pytest.fixture
def registry_with_token_auth(tmp_path: Path, token_server: TokenServer) -> Iterator[Registry]:
    """An empty registry that sends its clients to a token server, as public registries do."""
    made = Registry(
        require("docker-registry"),
        tmp_path / "registry-token",
        auth=token_server.registry_auth(),
        username=USERNAME,
        password=PASSWORD,
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for this test session."""
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def private_sigstore() -> Iterator[PrivateSigstore]:
    """A Sigstore instance on this machine: certificates, logs, times and identities for tests."""
    with PrivateSigstore() as instance:
        yield instance


@pytest.fixture
def tls_registry(tmp_path: Path, authority: Authority) -> Iterator[Registry]:
    """An empty HTTPS registry whose certificate only `ca_file` vouches for."""
    made = Registry(
        require("docker-registry"),
        tmp_path / "registry-tls",
        tls=authority.server,
        ca_file=authority.ca_file,
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture
def cosign(tmp_path: Path) -> Tool:
    """Real cosign: `cosign("verify", "--key", …)`; it can reach this machine only."""
    home = tmp_path / "cosign"
    home.mkdir()
    # The key's password is empty; nobody asks, there is no terminal.
    return Tool(require("cosign"), home, {"COSIGN_PASSWORD": "", "COSIGN_YES": "true"})


@pytest.fixture
def cosign_offline(cosign: Tool) -> list[str | Path]:
    """Arguments that make `cosign sign` use no transparency log and no timestamp authority."""
    config = cosign.home / "signing-config.json"
    made = cosign("signing-config", "create", "--out", config)
    assert made.returncode == 0, made.stderr
    return ["--signing-config", config]


@pytest.fixture
def oras(tmp_path: Path) -> Tool:
    """Real oras: `oras("pull", "--plain-http", …)`; it can reach this machine only."""
    home = tmp_path / "oras"
    home.mkdir()
    return Tool(require("oras"), home)


@pytest.fixture
def skopeo(tmp_path: Path) -> Tool:
    """Real skopeo: `skopeo("--insecure-policy", "copy", …)`; it can reach this machine only."""
    home = tmp_path / "skopeo"
    home.mkdir()
    return Tool(require("skopeo"), home)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A copy of this repository's own fleet, for tests that edit it."""
    copy = tmp_path / "workspace"
    copy.mkdir()
    shutil.copy(ROOT / "fleet.yaml", copy)
    for folder in ("hardware", "models"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\nEDGEWRIGHT_REQUIRE_REAL=1: nothing may be skipped here."


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one where everything must run."""
    report = yield
    if NOTHING_MAY_BE_SKIPPED:
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if NOTHING_MAY_BE_SKIPPED:
        _refuse_skip(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Sum up attacks and power cuts, and leave the counts where `.ci/run` prints them again as its last line."""
    attacks.summarize(terminalreporter)
    power_cuts.summarize(terminalreporter)
    if summary := os.environ.get("EDGEWRIGHT_TEST_SUMMARY"):
        count = {outcome: len(reports) for outcome, reports in terminalreporter.stats.items()}
        failed = count.get("failed", 0) + count.get("error", 0)
        Path(summary).write_text(
            f"{count.get('passed', 0)} passed, {failed} failed, {count.get('skipped', 0)} skipped\n"
        )
