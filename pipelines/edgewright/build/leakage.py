"""Leakage: the data sets of a model must share no sample, byte for byte, or its published figures mean nothing.

>>> sets = load_sets(ModelCode(folder), {"calibration": …, "selection": …, "test": …}, signature)   # doctest: +SKIP
>>> check_separate(sets).notes                                                                    # doctest: +SKIP
('model.yaml names no training data, so it is not proven that no other set holds a sample of them',)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from edgewright.build.entry import ModelCode
from edgewright.build.samples import Samples, load
from edgewright.errors import BuildError

SETS = ("training", "calibration", "selection", "test")
JUDGED = ("selection", "test")  # whose targets decide what a model is worth
ROWS_TOLD = 5
UNPROVEN = "model.yaml names no training data, so it is not proven that no other set holds a sample of them"


@dataclass(frozen=True)
class Separation:
    """What there is to say about sets that share nothing.

    Attributes:
        duplicates: Set → how many of its samples repeat an earlier one of the same set.
        notes: What could not be proven, in sentences.
    """

    duplicates: Mapping[str, int]
    notes: tuple[str, ...]


def load_sets(code: ModelCode, data: Mapping[str, Any], signature: Mapping[str, Any]) -> dict[str, Samples]:
    """Return every set that `data` names, in the order of `SETS`.

    Args:
        code: The model's folder.
        data: `data` of model.yaml, or a part of it: set → `module:function`.
        signature: `inputs` as in model.yaml.

    Raises:
        BuildError: as `samples.load`, which also refuses an empty set.
    """
    return {name: load(code, data[name], signature) for name in SETS if data.get(name)}


def check_separate(sets: Mapping[str, Samples], *, judged: bool = True) -> Separation:
    """Check that no sample is in two sets, and that no sample of one set has two targets.

    Args:
        sets: Set → samples, some of `SETS`.
        judged: Whether targets count. They do not for `cosine`, which has none; and the targets of training and
            calibration data decide no figure, so a noisy one may contradict another.

    Returns:
        How often each set repeats itself, which is allowed and worth knowing, and what could not be proven.

    Raises:
        BuildError: names both sets, how many samples they share and which; or the sample with two targets.
    """
    digests = {name: samples.digests() for name, samples in sets.items()}
    shared = [
        (len(rows), name, earlier, rows)
        for earlier, name in combinations(sets, 2)
        if (rows := _rows_in(digests[name], digests[earlier]))
    ]
    if shared:
        raise BuildError(
            "; ".join(
                f"{count} of {len(sets[name])} samples of {sets[name].entry} are also in {sets[earlier].entry}"
                f" ({name} rows {_listed(rows)})"
                for count, name, earlier, rows in shared
            )
            + ", so no figure would be held out",
            hint=f"split the data so that {_and(list(sets))} share no sample",
        )
    for name in JUDGED if judged else ():
        if name in sets:
            _check_targets(sets[name], digests[name])
    return Separation(
        {name: len(found) - len(set(found)) for name, found in digests.items()},
        () if "training" in sets else (UNPROVEN,),
    )


def _check_targets(samples: Samples, digests: list[bytes]) -> None:
    """Check that equal samples have equal targets: no model could be right about both.

    Raises:
        BuildError: names two rows that are one sample with two targets.
    """
    first: dict[bytes, int] = {}
    targets = np.asarray(samples.targets)
    for row, digest in enumerate(digests):
        earlier = first.setdefault(digest, row)
        if targets[earlier] != targets[row]:
            raise BuildError(
                f"{samples.entry}: rows {earlier} and {row} are the same sample with two targets,"
                f" {targets[earlier]} and {targets[row]}",
                hint="keep the one that is right: no model could be right about both",
            )


def _rows_in(digests: list[bytes], others: list[bytes]) -> list[int]:
    known = set(others)
    return [row for row, digest in enumerate(digests) if digest in known]


def _listed(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:ROWS_TOLD])) + (", …" if len(rows) > ROWS_TOLD else "")


def _and(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
