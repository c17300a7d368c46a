"""One inference from the command line: a golden sample by default, to see that a device works.

>>> infer("digit-reader", Path("/var/lib/edgewright"), None)["labels"]   # doctest: +SKIP
['seven']
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.contract import FILE_GOLDEN
from edgewright_agent.engine import InputError
from edgewright_agent.errors import AgentError
from edgewright_agent.golden import array_of, load_golden
from edgewright_agent.runtime import Session, open_model
from edgewright_agent.settings import read_json

if TYPE_CHECKING:
    from edgewright_agent.engine import Arrays


def infer(model: str, state: Path, inputs: Path | None) -> dict[str, Any]:
    """Run the active model and return JSON values: digest, outputs, and labels where it has some.

    Raises:
        ConfigError: `no-model`, `bad-input`.
        HealthError: the engine is missing or rejects the model.
        NoDecisionError: no model can answer, and the model declares that then nothing is decided.
    """
    with open_model(model, state) as session:
        arrays = _from_file(session, inputs) if inputs else _golden_sample(session, state)
        answer = session.answer(arrays)
    result = {
        "model": model,
        "digest": answer.digest,
        "input": str(inputs) if inputs else "golden sample",
        "outputs": {name: array.tolist() for name, array in answer.outputs.items()},
    }
    if answer.labels:
        result["labels"] = list(answer.labels)
    if answer.rung != "normal":
        result["rung"] = answer.rung
    return result


def in_words(answer: dict[str, Any]) -> str:
    """Return an answer of `infer` on one line: the labels, or the first values of each output."""
    if "labels" in answer:
        said = ", ".join(answer["labels"])
    else:
        said = "; ".join(f"{name} {str(values)[:60]}" for name, values in answer["outputs"].items())
    rung = f" ({answer['rung']})" if "rung" in answer else ""
    return f"{answer['model']}  {answer['digest'][:19]}  {answer['input']} → {said}{rung}"


def _golden_sample(session: Session, state: Path) -> Arrays:
    golden = load_golden(state / "store" / session.digest.removeprefix("sha256:") / FILE_GOLDEN)
    free = all(port.shape and port.shape[0] is None for port in session.inputs)
    return {name: array[:1] if free else array for name, array in golden.inputs.items()}


def _from_file(session: Session, path: Path) -> Arrays:
    try:
        document = read_json(path)
    except AgentError as error:  # the caller's file, not one of an artifact
        raise InputError("bad-input", str(error)) from error
    dtypes = {port.name: port.dtype for port in session.inputs}
    try:
        return {name: array_of(value, dtypes.get(name, "float32")) for name, value in document.items()}
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise InputError("bad-input", f"{path}: {error}") from error
