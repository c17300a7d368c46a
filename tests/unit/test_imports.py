"""Which package may import what (DESIGN, Layout): read from every module, then seen in a fresh process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgewright_agent import contract

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = ROOT / "pipelines" / "edgewright"
AGENT = ROOT / "agent" / "edgewright_agent"

# Seconds of start-up each; a no-op run has 0.3.
HEAVY = {"torch", "torch_pruning", "onnx", "onnxruntime", "onnxscript", "dagster", "sklearn", "matplotlib"}

# What the agent may import wherever it is installed; a device carries nothing else.
AGENT_MAY = {"edgewright_agent", "cryptography", "tuf", "securesystemslib"}
# Modules behind the agent's `[runtime]` extra.
AGENT_RUNTIME_MODULES = {
    "calibrate.py",
    "engine.py",
    "golden.py",
    "health.py",
    "infer.py",
    "runtime/experiment.py",
    "runtime/resident.py",
    "runtime/safe.py",
    "runtime/session.py",
    "runtime/sketch.py",
    "runtime/tally.py",
}
AGENT_RUNTIME_MAY = {"onnxruntime", "numpy"}
# The module behind the agent's `[keyless]` extra: a child process of its own.
AGENT_KEYLESS_MODULES = {"keyless_child.py"}
AGENT_KEYLESS_MAY = {"sigstore", "sigstore_models"}

SPEC_MAY = {"edgewright.spec", "edgewright.errors"}
PLAN_MAY = {"edgewright.plan", "edgewright.spec", "edgewright.errors"}
STAGES = ("build", "bench", "publish", "trust", "devices", "collect", "bundle")


@dataclass(frozen=True)
class Import:
    """One imported name, where it is written."""

    file: Path
    line: int
    name: str
    """Full dotted name: `edgewright_agent.contract` for `from edgewright_agent import contract` as well."""
    at_start: bool
    """Whether importing the module executes it (it is not inside a function, nor for type checkers only)."""

    @property
    def root(self) -> str:
        """First part of the name."""
        return self.name.partition(".")[0]

    def within(self, *packages: str) -> bool:
        """Whether it is one of `packages` or something inside one."""
        return any(self.name == package or self.name.startswith(package + ".") for package in packages)

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: imports {self.name}"


def _names(node: ast.Import | ast.ImportFrom, package: list[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
    for alias in node.names:
        # Only our own packages are told apart by their modules; `from onnx import helper` is onnx.
        yield f"{base}.{alias.name}" if base.startswith("edgewright") else base


def imports_of(file: Path) -> list[Import]:
    """Return every import of a module, those inside functions included."""
    package = list(
        file.relative_to(PIPELINE.parent if file.is_relative_to(PIPELINE) else AGENT.parent).parts
    )[:-1]
    found: list[Import] = []

    def visit(node: ast.AST, at_start: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(file, node.lineno, name, at_start) for name in _names(node, package))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_start = False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            at_start = False
        for child in ast.iter_child_nodes(node):
            visit(child, at_start)

    visit(ast.parse(file.read_text(), str(file)), True)
    return found


def _imports_below(*folders: Path) -> list[Import]:
    return [
        found for folder in folders for file in sorted(folder.rglob("*.py")) for found in imports_of(file)
    ]


def _claim(offending: list[Import], rule: str) -> None:
    assert not offending, rule + "\n" + "\n".join(map(str, offending))


def test_the_agent_imports_only_the_standard_library_cryptography_and_tuf() -> None:
    offending = [
        found
        for found in _imports_below(AGENT)
        if found.root not in sys.stdlib_module_names | AGENT_MAY
        and not (
            found.root in AGENT_RUNTIME_MAY
            and found.file.relative_to(AGENT).as_posix() in AGENT_RUNTIME_MODULES
        )
        and not (found.root in AGENT_KEYLESS_MAY and found.file.name in AGENT_KEYLESS_MODULES)
    ]
    _claim(
        offending,
        f"a device carries cryptography and tuf; a runtime only in {AGENT_RUNTIME_MODULES}, "
        f"sigstore only in {AGENT_KEYLESS_MODULES}",
    )


def test_the_agent_starts_without_a_runtime_and_without_sigstore() -> None:
    offending = [
        found
        for found in _imports_below(AGENT)
        if found.at_start and found.root in AGENT_RUNTIME_MAY | AGENT_KEYLESS_MAY
    ]
    _claim(offending, "a device may lack it, and an idle agent must not pay for it")


def test_the_agent_never_imports_the_pipeline() -> None:
    _claim(
        [found for found in _imports_below(AGENT) if found.root == "edgewright"], "dependencies point one way"
    )


def test_the_agent_is_written_for_python_3_10() -> None:
    for file in AGENT.rglob("*.py"):
        ast.parse(file.read_text(), str(file), feature_version=(3, 10))
    newer = [found for found in _imports_below(AGENT) if found.root in {"tomllib"}]
    _claim(newer, "not in Python 3.10's standard library")


def test_the_pipeline_imports_nothing_of_the_agent_but_the_contract() -> None:
    # `edgewright verify` says what a device would say, so it runs what a device runs.
    auditing = (PIPELINE / "verify", PIPELINE / "cli" / "verify.py")
    offending = [
        found
        for found in _imports_below(PIPELINE)
        if found.root == "edgewright_agent"
        and not found.within("edgewright_agent.contract")
        and not any(found.file.is_relative_to(place) for place in auditing)
    ]
    _claim(offending, "the contract is the only module both sides share, but for verifying as a device does")


def test_spec_plan_and_cli_start_without_heavy_imports() -> None:
    folders = (PIPELINE / "spec", PIPELINE / "plan", PIPELINE / "cli")
    offending = [found for found in _imports_below(*folders) if found.at_start and found.root in HEAVY]
    _claim(offending, "import it inside the function that needs it")


def test_spec_imports_no_other_package_of_the_pipeline() -> None:
    offending = [
        found
        for found in _imports_below(PIPELINE / "spec")
        if found.root == "edgewright" and not found.within(*SPEC_MAY)
    ]
    _claim(offending, "spec knows errors only")


def test_plan_imports_spec_and_the_contract_only() -> None:
    offending = [
        found
        for found in _imports_below(PIPELINE / "plan")
        if found.root == "edgewright" and not found.within(*PLAN_MAY)
    ]
    _claim(offending, "plan knows spec, errors and the contract only")


def test_spec_and_plan_import_dagster_and_torch_nowhere_at_all() -> None:
    offending = [
        found for found in _imports_below(PIPELINE / "spec", PIPELINE / "plan") if found.root in HEAVY
    ]
    _claim(offending, "planning is data in, data out")


def test_stages_know_neither_dagster_nor_the_command_line() -> None:
    offending = [
        found
        for found in _imports_below(*(PIPELINE / stage for stage in STAGES))
        if found.root == "dagster" or found.within("edgewright.assets", "edgewright.cli")
    ]
    _claim(offending, "assets wire the stages, never the other way round")


def _loaded_after_importing(modules: list[str], suspects: set[str]) -> set[str]:
    """Import `modules` in a fresh interpreter; return which of `suspects` that loaded."""
    program = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, json.dumps(modules), json.dumps(sorted(suspects))],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout))


def _modules_of(folder: Path) -> list[str]:
    """Return the dotted names of every module below a package folder of the pipeline."""
    return [
        ".".join(file.relative_to(PIPELINE.parent).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted(folder.rglob("*.py"))
    ]


@pytest.mark.parametrize("package", ["spec", "plan", "cli"])
def test_importing_every_module_of_spec_plan_and_cli_loads_nothing_heavy(package: str) -> None:
    assert _loaded_after_importing(_modules_of(PIPELINE / package), HEAVY) == set()


def test_an_idle_agent_has_neither_tuf_nor_cryptography_nor_a_runtime_loaded() -> None:
    idle = [f"edgewright_agent.{name}" for name in ("cli", "daemon") if (AGENT / f"{name}.py").exists()]
    suspects = {"tuf", "securesystemslib", "cryptography", "onnxruntime", "numpy"}
    assert _loaded_after_importing(idle, suspects) == set()


def test_the_contract_costs_a_device_nothing_but_the_standard_library() -> None:
    assert contract.__file__
    names = {found.root for found in imports_of(Path(contract.__file__))}
    assert names <= sys.stdlib_module_names


def test_relative_and_from_imports_are_seen_through() -> None:
    tree = ast.parse("from ..trust import signing_key\nfrom edgewright_agent import contract")
    relative, absolute = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    assert list(_names(relative, ["edgewright", "publish"])) == ["edgewright.trust.signing_key"]
    assert list(_names(absolute, ["edgewright", "publish"])) == ["edgewright_agent.contract"]
