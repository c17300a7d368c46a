"""A kit: what the pipeline writes is what the agent reads, and one recipe has one digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.bench.calibration.calibrate import recipe_of
from edgewright.bench.calibration.kit import Kit, describe, write
from edgewright.bench.calibration.nets import Recipe, make
from edgewright.errors import EnvironmentFault
from edgewright_agent import kit as device
from edgewright_agent.contract import digest_of
from unit.bench.calibration.figures import net, sheet

CLASS = "raspberry-pi-4"


@pytest.fixture
def kit() -> Kit:
    nets = [net("a-fp32"), net("a-int8", model=b"another")]
    return describe(CLASS, sheet(CLASS), Recipe(seed=7, nets=2), nets)


def test_what_is_written_is_what_a_device_reads(kit: Kit, tmp_path: Path) -> None:
    write(kit, tmp_path / "kit.zip")
    with device.Kit(tmp_path / "kit.zip") as read:
        assert read.digest == kit.digest
        assert (read.hardware_class, read.recipe) == (CLASS, {"seed": 7, "nets": 2, "reduceRange": False})
        assert (read.versions, read.threads, read.arena) == (">=1.22,<2", 3, True)
        assert read.graph_optimization == sheet(CLASS).runtime.graph_optimization
        for there, here in zip(read.nets, kit.nets, strict=True):
            assert (there.name, there.digest) == (here.name, digest_of(here.model))
            assert there.inputs == {"x": (1, 1, 2, 2)}
            read.write(there, tmp_path / "net.onnx")
            assert (tmp_path / "net.onnx").read_bytes() == here.model


def test_a_recipe_of_real_nets_has_one_digest() -> None:
    recipe = Recipe(nets=2)
    one, other = (describe(CLASS, sheet(CLASS), recipe, list(make(recipe))) for _ in range(2))
    assert one.digest == other.digest


def test_a_kit_is_the_same_file_whenever_it_is_written(kit: Kit, tmp_path: Path) -> None:
    write(kit, tmp_path / "one.zip")
    write(kit, tmp_path / "other.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


def test_another_net_or_setting_is_another_kit(kit: Kit) -> None:
    nets = [net("a-fp32"), net("a-int8", model=b"a third")]
    assert describe(CLASS, sheet(CLASS), Recipe(seed=7, nets=2), nets).digest != kit.digest
    other = describe(CLASS, sheet("medical-cart-cpu"), Recipe(seed=7, nets=2), kit.nets)
    assert other.digest != kit.digest


def test_int8_weights_have_seven_bits_where_products_of_two_can_saturate() -> None:
    reduced = {name: recipe_of(sheet(name), 8).reduce_range for name in (CLASS, "intel-lowpower-detector")}
    assert reduced == {CLASS: False, "intel-lowpower-detector": True}


def test_a_file_that_cannot_be_written_is_one_error(kit: Kit, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot write .*nowhere"):
        write(kit, tmp_path / "nowhere" / "kit.zip")
