"""Rules of a model: its parts must exist, agree with each other, and only narrow what classes demand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from pathlib import PurePosixPath, PureWindowsPath

from edgewright.spec.budget import Latency
from edgewright.spec.limits import LIMIT_PATHS, limit_values, narrowed
from edgewright.spec.model import Checkpoint, Model
from edgewright.spec.problem import did_you_mean
from edgewright.spec.quantity import BYTES, COUNT, MILLISECONDS, PERCENT, Quantity
from edgewright.spec.rules import Context, Finding, repeated, rule
from edgewright.spec.source import Path

_QUANTITIES: dict[str, Quantity] = {
    "artifact-size": BYTES,
    "load-time": MILLISECONDS,
    "power-cycle": MILLISECONDS,
    "latency-p95": MILLISECONDS,
    "latency-p99": MILLISECONDS,
    "peak-memory": BYTES,
    "instructions-load": COUNT,
    "instructions-inference": COUNT,
    "regression-load": PERCENT,
    "regression-inference": PERCENT,
}
"""Gate check → what its limit is written in."""


@rule(Model, "checkpoint", "train")
def weights_have_one_origin(model: Model, context: Context) -> Iterator[Finding]:
    """Either trained weights or a way to train them."""
    if model.checkpoint is not None and model.train is not None:
        yield Finding(("train",), "both 'checkpoint' and 'train'", "keep one of them", value=False)
    if model.checkpoint is None and model.train is None:
        yield Finding((), "neither 'checkpoint' nor 'train'", "add one of them")


@rule(Model, "network", "checkpoint", "train")
def a_model_without_network_is_an_onnx_file(model: Model, context: Context) -> Iterator[Finding]:
    """An ONNX checkpoint is the whole model; anything else needs a network to go into."""
    whole = model.checkpoint is not None and is_onnx(model.checkpoint)
    if model.network is None and model.train is not None:
        yield Finding(("train",), "there is no 'network' to train", "add network", value=False)
    elif model.network is None and model.checkpoint is not None and not whole:
        message = "without 'network' the checkpoint must be a whole model, an .onnx file"
        yield Finding(_place_of(model.checkpoint), message, "add network, or name an .onnx file")
    if model.network is not None and whole:
        message = "an .onnx checkpoint is a whole model, so 'network' has no effect"
        yield Finding(("network",), message, "remove network, or name a .safetensors file", value=False)


@rule(Model, "checkpoint")
def checkpoint_can_be_read(model: Model, context: Context) -> Iterator[Finding]:
    """One address; a file must be there and belong to the repository."""
    if model.checkpoint is not None:
        yield from check_checkpoint(model.checkpoint, ("checkpoint",), context)


def check_checkpoint(checkpoint: Checkpoint, place: Path, context: Context) -> Iterator[Finding]:
    """Find what is wrong with the address of a file of known digest."""
    if checkpoint.path is not None and checkpoint.uri is not None:
        yield Finding((*place, "uri"), "both 'path' and 'uri'", "keep one of them", value=False)
    if checkpoint.path is None and checkpoint.uri is None:
        yield Finding(place, "neither 'path' nor 'uri'", "add one of them", value=False)
    if checkpoint.path is not None:
        yield from _check_file(checkpoint.path, (*place, "path"), context)


def is_onnx(checkpoint: Checkpoint) -> bool:
    """Whether the name of the file says that it is a whole model."""
    written = checkpoint.path or (checkpoint.uri or "").partition("?")[0].partition("#")[0]
    return written.endswith(".onnx")


def _place_of(checkpoint: Checkpoint) -> Path:
    key = next((key for key in ("path", "uri") if getattr(checkpoint, key) is not None), None)
    return ("checkpoint", key) if key else ("checkpoint",)


def _check_file(written: str, path: Path, context: Context) -> Iterator[Finding]:
    posix, windows = PurePosixPath(written), PureWindowsPath(written)
    if posix.is_absolute() or windows.drive or "\\" in written or ".." in posix.parts or written[0] == "~":
        yield Finding(path, "this path leaves the model's folder", "put the file beside model.yaml")
        return
    folder = context.draft.root / "models" / context.loaded.name
    name = (PurePosixPath("models") / context.loaded.name / posix).as_posix()
    try:
        inside = (folder / posix).resolve().is_relative_to(context.draft.root.resolve())
        found = (folder / posix).is_file()
    except (OSError, ValueError, RuntimeError):  # too long a name, a loop of links
        inside, found = True, False
    if not inside:
        yield Finding(
            path, "this path is a link that leaves the repository", "put the file beside model.yaml"
        )
    elif not found:
        near = did_you_mean(posix.name, _names(folder / posix.parent, posix.suffix))
        yield Finding(path, f"there is no file {name}", near)


@rule(Model, "data")
def data_sets_are_different_ones(model: Model, context: Context) -> Iterator[Finding]:
    """The same function twice is leakage that needs no sample to be found."""
    parts = [part for part in ("training", "calibration", "selection", "test") if getattr(model.data, part)]
    for index, first, entry in repeated(getattr(model.data, part) for part in parts):
        message = f"{entry} already gives the {parts[first]} samples"
        yield Finding(("data", parts[index]), message, "no two sets may share a sample")


@rule(Model, "optimization", "overrides")
def recipes_are_named_once(model: Model, context: Context) -> Iterator[Finding]:
    """A recipe that is named twice is a slip for another one."""
    places: list[tuple[Path, tuple[str, ...]]] = [(("optimization",), model.optimization.recipes)]
    places += [
        (("overrides", index, "optimization"), override.optimization.recipes or ())
        for index, override in enumerate(model.overrides)
        if override.optimization is not None
    ]
    for place, recipes in places:
        for index, _first, name in repeated(recipes):
            yield Finding((*place, "recipes", index), f"'{name}' is here twice")


@rule(Model, "network", "data", "train", "optimization")
def entries_exist(model: Model, context: Context) -> Iterator[Finding]:
    """Every `module:function` has its file, and the file speaks of the function; nothing is imported."""
    entries: list[tuple[Path, str]] = [
        (("data", part), entry)
        for part in ("training", "calibration", "selection", "test")
        if (entry := getattr(model.data, part)) is not None
    ]
    if model.network is not None:
        entries.append((("network", "factory"), model.network.factory))
    if model.train is not None:
        entries.append((("train", "entry"), model.train.entry))
    for index, variant in enumerate(model.optimization.variants):
        place: Path = ("optimization", "variants", index)
        if variant.student is not None:
            entries.append(((*place, "student", "factory"), variant.student.factory))
        if variant.train is not None:
            entries.append(((*place, "train", "entry"), variant.train.entry))
    folder = context.draft.root / "models" / context.loaded.name
    for path, entry in entries:
        module, _, function = entry.partition(":")
        file = folder / (module.replace(".", "/") + ".py")
        if not file.is_file():
            file = folder / module.replace(".", "/") / "__init__.py"
        if not file.is_file():
            missing = f"models/{context.loaded.name}/{module.replace('.', '/')}.py"
            near = did_you_mean(module, [name.removesuffix(".py") for name in _names(folder, ".py")])
            yield Finding(path, f"there is no file {missing}", near)
        elif (known := _defined(file)) is not None and function not in known:
            message = f"{file.relative_to(context.draft.root).as_posix()} has no {function!r}"
            yield Finding(path, message, did_you_mean(function, known, "it has"))


def _defined(file: FilePath) -> set[str] | None:
    """Names a module may have at its top level, from its text; None when only importing it could tell."""
    try:
        text = file.read_bytes()[: 1 << 20].decode("utf-8", errors="replace")
    except OSError:
        return None
    if re.search(r"import\s+\*|__getattr__", text):
        return None
    names = set(re.findall(r"^(?:async\s+def|def|class)\s+(\w+)", text, re.MULTILINE))
    names.update(re.findall(r"^(\w+)\s*[:=]", text, re.MULTILINE))
    for imported in re.findall(r"^(?:from\s+\S+\s+)?import\s+(\([^)]*\)|.+)$", text, re.MULTILINE):
        names.update(re.findall(r"\w+", imported))
    return names


def _names(folder: FilePath, suffix: str) -> list[str]:
    try:
        return sorted(item.name for item in folder.iterdir() if item.suffix == suffix and item.is_file())
    except OSError:
        return []


@rule(Model, "signature")
def signature_is_batched(model: Model, context: Context) -> Iterator[Finding]:
    """Every tensor has the batch dimension first and nowhere else; names are distinct."""
    sections = (("inputs", model.signature.inputs), ("outputs", model.signature.outputs))
    for section, tensors in sections:
        for index, tensor in enumerate(tensors):
            path: Path = ("signature", section, index, "shape")
            if tensor.shape[0] != "batch":
                yield Finding((*path, 0), "the first dimension must be 'batch'", "write [batch, …]")
            for axis, size in enumerate(tensor.shape):
                if axis and size == "batch":
                    yield Finding((*path, axis), "only the first dimension is 'batch'", "write a number")
    places: list[Path] = [
        ("signature", section, i, "name") for section, tensors in sections for i in range(len(tensors))
    ]
    names = [tensor.name for _section, tensors in sections for tensor in tensors]
    for index, _first, name in repeated(names):
        yield Finding(places[index], f"another tensor is called '{name}'", "names must differ")


@rule(Model, "signature", "labels")
def labels_match_the_output(model: Model, context: Context) -> Iterator[Finding]:
    """One label for each value along the last dimension of the first output."""
    for index, first, label in repeated(model.labels):
        yield Finding(("labels", index), f"'{label}' is already label {first}")
    size = model.signature.outputs[0].shape[-1]
    if model.labels and size != "batch" and len(model.labels) != size:
        name = model.signature.outputs[0].name
        yield Finding(("labels",), f"{len(model.labels)} labels for {size} values of '{name}'", value=False)


@rule(Model, "signature", "metric", "labels", "overrides")
def metric_suits_the_model(model: Model, context: Context) -> Iterator[Finding]:
    """Only classes have labels, and an area needs one score per sample."""
    name, output = model.metric.name, model.signature.outputs[0]
    if name == "accuracy" and len(output.shape) != 2:
        message = f"accuracy needs one score per class, and '{output.name}' is {_shape(output.shape)}"
        yield Finding(
            ("metric", "name"), message, "write auc for one score per sample, cosine for any vector"
        )
    if name == "accuracy" and output.shape[1:] == (1,):
        message = f"with one class every answer is right, and '{output.name}' is {_shape(output.shape)}"
        yield Finding(("metric", "name"), message, "write auc for one score per sample")
    if name == "auc" and output.shape[1:] not in ((), (1,)):
        message = f"auc needs one score per sample, and '{output.name}' is {_shape(output.shape)}"
        yield Finding(("metric", "name"), message, "make the first output [batch] or [batch, 1]")
    if name == "cosine" and output.dtype != "float32":
        message = f"cosine needs a vector of float32, and '{output.name}' is {output.dtype}"
        yield Finding(("metric", "name"), message)
    if name == "accuracy":
        return
    if model.labels:
        yield Finding(("labels",), f"'labels' has no effect with {name}", "remove it", value=False)
    places: list[tuple[Path, float | None]] = [(("metric",), model.metric.max_label_drop)]
    places += [
        (("overrides", index, "metric"), override.metric.max_label_drop)
        for index, override in enumerate(model.overrides)
        if override.metric is not None
    ]
    for place, limit in places:
        if limit is not None:
            message = f"'maxLabelDrop' has no effect with {name}"
            yield Finding((*place, "maxLabelDrop"), message, "remove it", value=False)


def _shape(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


@rule(Model, "classes")
def classes_exist(model: Model, context: Context) -> Iterator[Finding]:
    """Every class has its sheet."""
    for index, name in enumerate(model.classes or ()):
        if name not in context.draft.hardware:
            yield _unknown_class(("classes", index), name, context)
    for index, _first, name in repeated(model.classes or ()):
        yield Finding(("classes", index), f"'{name}' is here twice")


@rule(Model, "overrides", "classes")
def overrides_speak_of_built_classes(model: Model, context: Context) -> Iterator[Finding]:
    """An override for a class that does not exist, is not built, or was overridden before does nothing."""
    for index, override in enumerate(model.overrides):
        path: Path = ("overrides", index, "hardwareClass")
        if override.hardware_class not in context.draft.hardware:
            yield _unknown_class(path, override.hardware_class, context)
        elif model.classes is not None and override.hardware_class not in model.classes:
            yield Finding(path, f"'{override.hardware_class}' is not one of this model's 'classes'")
        if all(getattr(override, key) is None for key in ("metric", "conditions", "limits", "optimization")):
            message = "this override changes nothing"
            yield Finding(path, message, "add metric, conditions, limits or optimization")
    for index, first, name in repeated(override.hardware_class for override in model.overrides):
        line = context.loaded.source.at(("overrides", first)).line
        yield Finding(("overrides", index, "hardwareClass"), f"'{name}' is already overridden on line {line}")


@rule(Model, "overrides")
def overrides_only_narrow(model: Model, context: Context) -> Iterator[Finding]:
    """The sheet is what the device can sustain; no model can change that."""
    for index, override in enumerate(model.overrides):
        sheet = context.draft.hardware.get(override.hardware_class)
        if sheet is None or not sheet.has("limits") or override.limits is None:
            continue
        limits = sheet.document.limits
        allowed, wanted = limit_values(limits), limit_values(override.limits)
        # By place, because two checks share one limit: a mistake is told once.
        for below, check in {LIMIT_PATHS[check]: check for check in wanted}.items():
            if check in allowed and wanted[check] > allowed[check]:
                text = _QUANTITIES[check].format(allowed[check])
                where = sheet.source.line(("limits", *below))
                message = f"wider than the class allows ({text}, {where})"
                path: Path = ("overrides", index, "limits", *below)
                yield Finding(path, message, f"an override may only narrow: write {text} or less")
        yield from _percentiles_stay_ordered(index, narrowed(limits, override.limits).latency)


def _percentiles_stay_ordered(index: int, latency: Latency) -> Iterator[Finding]:
    p95, p99 = latency.p95, latency.p99
    if p99 < p95:
        message = f"p99 ({MILLISECONDS.format(p99)}) is below p95 ({MILLISECONDS.format(p95)})"
        yield Finding(("overrides", index, "limits", "latency"), message, value=False)


def _unknown_class(path: Path, name: str, context: Context) -> Finding:
    hint = did_you_mean(name, context.draft.hardware, "classes are")
    return Finding(path, f"there is no hardware class '{name}' (hardware/{name}.yaml)", hint)


@rule(Model, "datasets")
def datasets_have_their_own_names(model: Model, context: Context) -> Iterator[Finding]:
    """A bill of materials refers to data sets by name."""
    for index, first, name in repeated(dataset.name for dataset in model.datasets):
        line = context.loaded.source.at(("datasets", first)).line
        yield Finding(("datasets", index, "name"), f"data set '{name}' is already on line {line}")
