"""`edgewright calibrate`: what instructions cost on a class, measured with ONNX Runtime there or on this machine."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import root_option
from edgewright.errors import EnvironmentFault, SpecError

if TYPE_CHECKING:
    from edgewright.bench.calibration.calibrate import Calibration
    from edgewright.bench.calibration.kit import Kit
    from edgewright.bench.calibration.measured import Measured
    from edgewright.spec.hardware import Sheet
    from edgewright.spec.workspace import Workspace

Watch = Callable[[str], Callable[[int, int], None]]
"""Names what begins; what it returns is called with how many are done and how many there are."""


@click.command()
@root_option
@click.argument("hardware_class", metavar="CLASS")
@click.option("--kit", "kit_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write the nets for a device into FILE, and stop.")  # fmt: skip
@click.option("--measured", "measured_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Fit what a device has measured, instead of measuring here.")  # fmt: skip
@click.option("--nets", default=150, show_default=True, type=click.IntRange(8, 2000), help="How many nets.")
@click.option(
    "--rounds",
    default=2,
    show_default=True,
    type=click.IntRange(1, 20),
    help="How often each is measured here.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change in the sheet, and change nothing.")
def command(
    root: Path,
    hardware_class: str,
    kit_file: Path | None,
    measured_file: Path | None,
    nets: int,
    rounds: int,
    dry_run: bool,
) -> None:
    """Measure what instructions cost on CLASS, and write it into its sheet.

    Random small nets, in fp32 and int8, are run with ONNX Runtime and counted on the class's emulated processor;
    coefficients are fitted to both. On this machine when it is of the class's architecture; for a device:

    \\b
      edgewright calibrate CLASS --kit kit.zip
      edgewright-agent calibrate kit.zip --out measured.json     (there)
      edgewright calibrate CLASS --measured measured.json
    """
    from edgewright.bench.assessment import alone
    from edgewright.bench.calibration.calibrate import check_class, counting_target
    from edgewright.bench.calibration.host import check_host, measure_here
    from edgewright.bench.calibration.kit import write
    from edgewright.bench.target.userland import targets_cache
    from edgewright.spec.load import load_fleet

    if kit_file and measured_file:
        raise SpecError("--kit makes nets and --measured fits them: one at a time")
    workspace = load_fleet(root)
    sheet = _sheet(workspace, hardware_class)
    check_class(hardware_class, sheet)
    if kit_file:
        kit = _made(hardware_class, sheet, nets)
        write(kit, kit_file)
        click.echo(f"wrote {kit_file}: {len(kit.nets)} nets, {kit_file.stat().st_size / 1e6:.1f} MB")
        click.echo(f"next, on the device: edgewright-agent calibrate {kit_file.name} --out measured.json")
        return
    cache = targets_cache()
    if measured_file:
        kit, measured = _of_a_device(hardware_class, sheet, measured_file)
        counting_target(sheet, cache)
    else:
        check_host(hardware_class, sheet)
        counting_target(sheet, cache)  # what is missing is told before minutes of measuring
        kit = _made(hardware_class, sheet, nets)
        click.echo("measuring", err=True)
        with alone(cache, lambda step: click.echo(step, err=True)):
            measured = measure_here(kit, rounds=rounds)
    found = _fitted(sheet, kit, measured, cache)
    click.echo(_told(found))
    _write(workspace, hardware_class, found, dry_run=dry_run)


def _sheet(workspace: Workspace, hardware_class: str) -> Sheet:
    from edgewright.spec.hardware import Sheet

    if hardware_class not in workspace.hardware:
        known = ", ".join(sorted(workspace.hardware)) or "none"
        raise SpecError(f"there is no hardware class {hardware_class!r}", hint=f"here: {known}")
    return Sheet.of(workspace.hardware[hardware_class])


def _made(hardware_class: str, sheet: Sheet, nets: int) -> Kit:
    from edgewright.bench.calibration.calibrate import make_kit, recipe_of

    with _watching() as watch:
        return make_kit(hardware_class, sheet, recipe_of(sheet, nets), watch("making nets"))


def _of_a_device(hardware_class: str, sheet: Sheet, file: Path) -> tuple[Kit, Measured]:
    from edgewright.bench.calibration.calibrate import check_kit, check_measured, make_kit
    from edgewright.bench.calibration.measured import read

    measured = read(file)
    check_measured(hardware_class, sheet, measured)
    with _watching() as watch:
        kit = make_kit(hardware_class, sheet, measured.recipe, watch("making the nets again"))
    check_kit(kit, measured)
    return kit, measured


def _fitted(sheet: Sheet, kit: Kit, measured: Measured, cache: Path) -> Calibration:
    from edgewright.bench.calibration.batch import count_nets
    from edgewright.bench.calibration.calibrate import calibrate, counting_target
    from edgewright.bench.counting.build import build
    from edgewright.bench.target.observe import Memo

    target = counting_target(sheet, cache)
    with _watching() as watch:
        counts = count_nets(
            target,
            [net for net in kit.nets if net.name in measured.nets],
            kit.document["runtime"],
            plugin=build(cache),
            memo=Memo(cache),
            progress=watch(f"counting on {target.label}"),
        )
    return calibrate(sheet, kit, measured, counts, target.label)


def _told(found: Calibration) -> str:
    from edgewright.bench.calibration.table import table

    return table(found)


def _write(workspace: Workspace, hardware_class: str, found: Calibration, *, dry_run: bool) -> None:
    """Write the figures into the class's sheet, or show the difference.

    Raises:
        EnvironmentFault: the file cannot be read or written.
        SpecError: it is written in a way in which figures cannot be replaced.
    """
    from edgewright.bench.calibration.sheet import with_figures
    from edgewright.plan.note import write_whole

    name = f"hardware/{hardware_class}.yaml"
    path = workspace.root / name
    try:
        before = path.read_bytes().decode()
        after = with_figures(before, found.figures, name)
        if dry_run:
            lines = difflib.unified_diff(
                before.splitlines(), after.splitlines(), name, f"{name}, calibrated", lineterm=""
            )
            click.echo("\n" + "\n".join(lines))
            return
        write_whole(path, after.encode())
    except OSError as error:
        raise EnvironmentFault(f"cannot write {path}: {error.strerror or error}") from error
    click.echo(f"\nwrote {name}; next: git diff {name}, then edgewright plan")


@contextmanager
def _watching() -> Iterator[Watch]:
    """Show progress on stderr: a bar on a terminal, else a line when something begins."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:

        def begin(what: str) -> Callable[[int, int], None]:
            click.echo(what, err=True)
            return lambda _done, _total: None

        yield begin
        return
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:

        def begin_bar(what: str) -> Callable[[int, int], None]:
            task = bars.add_task(what, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield begin_bar
