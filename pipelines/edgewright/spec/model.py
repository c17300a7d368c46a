"""The model: `models/<name>/model.yaml` and the Python it names (network, data, training)."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from edgewright.spec.base import Document, FilePath, Line, Name, Prose, SemanticVersion, Spec, Text
from edgewright.spec.budget import InstructionLimits
from edgewright.spec.condition import Condition, ConditionOverride, TensorName
from edgewright.spec.quantity import Bytes, Milliseconds, Percent, Quantity, Seconds
from edgewright.spec.safe_output import SafeOutput

Entry = Annotated[
    str,
    Text(
        "module:function",
        r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*",
        ("network:build",),
        max_length=200,
    ),
]
"""`module:function`, with the module looked up in the model's folder."""

Uri = Annotated[
    str,
    Text(
        "an https:// or file:// address without a user name or password in it",
        r"https://[^\s/@]+/\S+|file://\S+",
        ("https://models.example/digits.safetensors",),
    ),
]

License = Annotated[
    str, Text("an SPDX licence expression", r"[A-Za-z0-9.+()-]+( [A-Za-z0-9.+()-]+)*", ("Apache-2.0",))
]

Dimension = Annotated[int, Field(ge=1, le=2**31)] | Literal["batch"]


class Network(Spec):
    """What builds the untrained network."""

    factory: Entry
    """`module:function` that returns a `torch.nn.Module`."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the factory."""


class Checkpoint(Spec):
    """Trained weights, or a whole ONNX model, in a file; exactly one of `path` and `uri`."""

    path: FilePath | None = None
    """File, relative to the model's folder and inside it."""
    uri: Uri | None = None
    """`https://` or `file://` address, without a user name or password in it."""
    sha256: Annotated[str, Text("64 hexadecimal digits in lower case", r"[0-9a-f]{64}", fix=str.lower)]
    """Digest the file must have."""


class Train(Spec):
    """A training run small enough to be a step of the pipeline."""

    entry: Entry
    """`module:function(network, seed, **arguments)` that trains the network in place."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Seed of everything random."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """More keyword arguments."""


class Tensor(Spec):
    """One input or output of the network."""

    name: TensorName
    """Name in the ONNX graph."""
    dtype: Literal["float32", "int64", "int32", "uint8"] = "float32"
    """Element type."""
    shape: tuple[Dimension, ...] = Field(min_length=1)
    """Dimensions; `batch` is the dynamic one and comes first."""


class Signature(Spec):
    """Inputs and outputs, in the order the network takes and gives them."""

    inputs: tuple[Tensor, ...] = Field(min_length=1)
    """Inputs."""
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    """Outputs."""


class Data(Spec):
    """Where samples come from; each function returns `(inputs, targets)`: a dict of arrays and an array."""

    training: Entry | None = None
    """Samples the weights are fitted to; named, it is proven that no other set holds one of them."""
    calibration: Entry
    """Samples that set the ranges of quantized activations."""
    selection: Entry
    """Samples by which the best candidate is chosen."""
    test: Entry
    """Held-out samples for the published figures; nothing is fitted to them or chosen by them."""


class DataSet(Spec):
    """Where data come from and under which licence, for the bill of materials; it changes no artifact."""

    name: Line
    """What the data set is called."""
    source: Uri | None = None
    """`https://` or `file://` address of the data or of what describes them."""
    license: License | None = None
    """SPDX licence expression of the data."""
    sha256: (
        Annotated[str, Text("64 hexadecimal digits in lower case", r"[0-9a-f]{64}", fix=str.lower)] | None
    ) = None
    """Digest of the data where they are one file."""
    use: tuple[Literal["training", "calibration", "selection", "test"], ...] = Field(min_length=1)
    """Which of the functions under `data` draw from it."""
    description: Prose | None = None
    """What it holds, how it was collected, what it leaves out."""


class Metric(Spec):
    """What is measured on the test data, and what must hold."""

    name: Literal["accuracy", "auc", "cosine"] = "accuracy"
    """Share of samples whose largest output is the target; area under the ROC curve of one score per sample, targets 0
    and 1; or mean cosine similarity of the first output to that of the fp32 network, whatever the targets."""
    floor: float = Field(ge=0, le=1)
    """Lowest value that may ship: the lower end of the 95 % confidence interval must reach it."""
    max_drop: float = Field(ge=0, le=1)
    """Largest loss against the fp32 network on the same samples."""
    max_label_drop: float | None = Field(default=None, ge=0, le=1)
    """Largest loss of recall of any single label against fp32, with `accuracy` only; absent: reported, not judged."""


Recipe = Literal["fp16", "dynamic-int8", "static-int8", "mixed-int8", "weight-int8", "weight-int4"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)


class Variant(Spec):
    """Another network made from the trained one by training code; it is optimized like the trained one itself."""

    name: Name
    """What it is called in tables."""
    recipe: Literal["prune", "sparsify", "distill", "qat"]
    """Whole channels removed; single weights set to zero; a smaller student taught by the network; or training under
    simulated int8."""
    ratio: Percent | None = None
    """With `prune`, the share of channels to remove; with `sparsify`, the share of weights set to zero."""
    student: Network | None = None
    """With `distill`: what builds the untrained student."""
    train: Train | None = None
    """Fine-tuning, `module:function(network, seed, **arguments)`; with `distill`, which also gets `teacher=`."""
    checkpoint: Checkpoint | None = None
    """The variant as ONNX, pinned: what `edgewright variants MODEL --write` made. Absent: trained in the pipeline."""


class Optimization(Spec):
    """What may be tried to make the model smaller or faster, and what counts."""

    objective: Literal["latency", "size", "memory", "balanced"] = "balanced"
    """What the choice among all candidates within the limits goes by; `balanced` is the geometric mean of the three."""
    recipes: tuple[Recipe, ...] = RECIPES
    """Recipes that may be tried, each used where the class and the model allow it; none of them: fp32."""
    time_budget: Seconds = 600.0
    """Estimated time that measuring candidates of one lane may take; the cheapest and most promising come first."""
    variants: tuple[Variant, ...] = ()
    """Networks derived from the trained one."""


class Golden(Spec):
    """Inputs a device replays after installing, with the outputs this artifact gave."""

    samples: int = Field(default=8, ge=1, le=256)
    """How many test samples are shipped."""
    atol: float = Field(default=1e-2, ge=0)
    """Absolute tolerance of an output."""
    rtol: float = Field(default=1e-2, ge=0)
    """Relative tolerance of an output."""


# A thousand requests a second for ten minutes is what a simulation can still play through in about a second.
PerSecond = Annotated[
    float,
    Quantity(
        "a rate",
        {"/h": (1, 3600), "/m": (1, 60), "/s": (1, 1)},
        "/s",
        ("20/s", "6/m"),
        maximum=1000,
        near={"hz": "/s", "fps": "/s", "/min": "/m", "/sec": "/s", "/hour": "/h"},
    ),
]
"""How often something happens; read as times per second."""


class Workload(Spec):
    """What the application asks of the model, for the simulation of queueing and heat."""

    arrival: Literal["periodic", "poisson", "burst"]
    """`periodic`: like a clock; `poisson`: independent of each other; `burst`: groups that come independently."""
    rate: PerSecond
    """Inferences asked for, on average."""
    queue: int = Field(ge=0, le=100_000)
    """How many may wait besides the one being served; whatever comes on top is dropped."""
    max_dropped: Percent = 0.0
    """Largest share of requests that may find no place in the queue, in the worst simulated case."""
    burst: int | None = Field(default=None, ge=2, le=10_000)
    """How many come at once, with `arrival: burst` only."""

    @model_validator(mode="after")
    def _bursts_have_a_size(self) -> Workload:
        """Check that exactly a burst has a size.

        Raises:
            PydanticCustomError: says which key is missing or has no effect.
        """
        if (self.arrival == "burst") == (self.burst is None):
            message = (
                "'burst' is missing: how many come at once"
                if self.burst is None
                else f"'burst' has no effect with {self.arrival}"
            )
            raise PydanticCustomError("contradiction", "{message}", {"message": message})
        return self


class LatencyOverride(Spec):
    """Narrower latency limits."""

    p95: Milliseconds | None = None
    """95th percentile."""
    p99: Milliseconds | None = None
    """99th percentile."""


class LimitsOverride(Spec):
    """Limits of this model, narrower than the class's own."""

    artifact_size: Bytes | None = None
    """Sum of all layers."""
    load_time: Milliseconds | None = None
    """Load time."""
    power_cycle: Milliseconds | None = None
    """Start-up after a power cycle."""
    latency: LatencyOverride | None = None
    """Latency."""
    peak_memory: Bytes | None = None
    """Peak memory."""
    instructions: InstructionLimits | None = None
    """Budget of guest instructions; also where the class has none."""
    regression: Percent | None = None
    """How much the instructions may grow over the baseline."""


class MetricOverride(Spec):
    """Another floor or drop on one class."""

    floor: float | None = Field(default=None, ge=0, le=1)
    """Lowest value that may ship."""
    max_drop: float | None = Field(default=None, ge=0, le=1)
    """Largest loss against fp32."""
    max_label_drop: float | None = Field(default=None, ge=0, le=1)
    """Largest loss of recall of a label."""


class OptimizationOverride(Spec):
    """Another objective, or other recipes, on one class."""

    objective: Literal["latency", "size", "memory", "balanced"] | None = None
    """What the choice goes by."""
    recipes: tuple[Recipe, ...] | None = None
    """Recipes that may be tried."""
    time_budget: Seconds | None = None
    """Estimated time that measuring candidates may take."""


class Override(Spec):
    """What differs on one hardware class."""

    hardware_class: Name
    """The class."""
    metric: MetricOverride | None = None
    """Metric."""
    conditions: tuple[ConditionOverride, ...] | None = Field(default=None, min_length=1)
    """Floors of field conditions."""
    limits: LimitsOverride | None = None
    """Limits."""
    optimization: OptimizationOverride | None = None
    """Objective and recipes."""


class Model(Document):
    """One model: `models/<name>/model.yaml`."""

    model_version: SemanticVersion
    """Semantic version people know this model by; the tag of its OCI index."""
    description: Prose
    """What it does."""
    license: License
    """SPDX licence of the weights."""
    task: Line | None = None
    """What kind of problem it solves, in the words of model cards, such as `image-classification`."""
    datasets: tuple[DataSet, ...] = ()
    """Data sets by name, source and licence, for the bill of materials."""
    network: Network | None = None
    """Network; absent when the checkpoint is an ONNX model."""
    checkpoint: Checkpoint | None = None
    """Weights of `network` as a safetensors file, or a whole model as an `.onnx` file; either this or `train`."""
    train: Train | None = None
    """Weights from a training run; either this or `checkpoint`."""
    signature: Signature
    """Inputs and outputs."""
    labels: tuple[Line, ...] = ()
    """Names of the classes of the first output, in quotes when they look like numbers."""
    data: Data
    """Data sets."""
    metric: Metric
    """Metric and floor."""
    conditions: tuple[Condition, ...] = ()
    """Field conditions: worse inputs, each with the accuracy that must be left."""
    optimization: Optimization = Field(default_factory=Optimization)
    """Recipes to try."""
    golden: Golden = Field(default_factory=Golden)
    """Golden inference."""
    workload: Workload | None = None
    """What the application asks for; absent: queueing is not simulated."""
    safe_output: SafeOutput | None = None
    """What applications get when no model on a device can be used; absent: `no-decision`."""
    encrypt: bool | None = None
    """Whether the weights are encrypted for each class's `encryption.recipients`; absent: as the class says."""
    classes: tuple[Name, ...] | None = None
    """Hardware classes to build for; absent: all."""
    overrides: tuple[Override, ...] = ()
    """Differences per hardware class."""
