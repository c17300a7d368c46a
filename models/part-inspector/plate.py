"""The rendered part: what a camera above a conveyor sees of a machined plate with a bore and four bolt holes.

A plate lies turned and a little off centre under one lamp. Its surface is turned or brushed, its rim is
chamfered, and dust lies on it. On top comes at most one defect:

    image = ADC(lamp · (albedo · texture · stain + rim + dent) with holes, scratch and dust + noise)

The shapes are those of the field, not of one drawing: a dent is the shading of a Gaussian hollow under
directional light (Lambert's law to first order: the slope towards the lamp), a scratch is a thin curved line
that reflects more or less than its surroundings, a stain lowers the albedo inside an irregular outline. All
edges are anti-aliased by signed distance, so no detail depends on the grid. Lengths are in half image widths.

>>> images, labels = photograph(5, Scene(turned_deg=(0, 0), lamp_deg=((90, 90),)), seed=1)
>>> images.shape, [LABELS[label] for label in labels]
((5, 1, 32, 32), ['good', 'scratch', 'dent', 'missing-hole', 'stain'])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDE = 32
LABELS = ("good", "scratch", "dent", "missing-hole", "stain")
PIXEL = 2 / SIDE
HOLES = np.deg2rad(45 + 90 * np.arange(4))
HOLE_CIRCLE = 0.60
ADC_STEPS = 255  # 8 bits: far coarser than the last bits in which two processors' sine may differ

Ranges = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Scene:
    """The range of plates, lamps and cameras one data set is drawn from; every pair is a uniform range.

    Attributes:
        turned_deg: Angle of the plate on the conveyor; a quarter turn looks the same.
        lamp_deg: Direction the light comes from: one of these ranges, then a point of it.
        off_centre: Largest distance of the plate from the middle of the image, per axis.
        size: Radius of the plate.
        brightness: Of the lamp; high values saturate the camera.
        gradient: How much brighter the lamp's side of the image is.
        texture: Contrast of the machining marks.
        noise: Standard deviation of the camera's noise, as a share of full scale.
        severity: Contrast of a defect, 1 being a plain one.
    """

    turned_deg: tuple[float, float]
    lamp_deg: Ranges
    off_centre: float = 0.08
    size: tuple[float, float] = (0.78, 0.90)
    brightness: tuple[float, float] = (0.75, 1.15)
    gradient: tuple[float, float] = (0.05, 0.30)
    texture: tuple[float, float] = (0.02, 0.07)
    noise: tuple[float, float] = (0.008, 0.025)
    severity: tuple[float, float] = (0.45, 1.0)


@dataclass(frozen=True)
class Surface:
    """A batch of plates: for every pixel its place on the plate, and for every plate how it is lit.

    Attributes:
        x: Image coordinates, [1, side, side]; right is positive.
        y: As `x`; down is positive.
        across: Coordinates in the plate's own axes and unit radius, [plates, side, side].
        along: As `across`.
        lamp: Unit vector towards the lamp in the image, [2, plates, 1, 1].
        severity: Of the defect, [plates, 1, 1].
    """

    x: np.ndarray
    y: np.ndarray
    across: np.ndarray
    along: np.ndarray
    lamp: np.ndarray
    severity: np.ndarray

    @property
    def radius(self) -> np.ndarray:
        """Distance from the plate's centre."""
        return np.hypot(self.across, self.along)


def photograph(count: int, scene: Scene, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` images, the five labels in turn.

    Args:
        count: Number of images.
        scene: What is drawn from.
        seed: Seed of everything random.

    Returns:
        Grey values within 0 and 1, float32 [count, 1, 32, 32]; labels, int64 [count], as indices of `LABELS`.
    """
    dice = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % len(LABELS)
    images = np.concatenate([_batch(part, scene, dice) for part in np.array_split(labels, -(-count // 250))])
    return images.astype(np.float32)[:, None], labels


def _batch(labels: np.ndarray, scene: Scene, dice: np.random.Generator) -> np.ndarray:
    surface = _placed(len(labels), scene, dice)
    metal = _uniform(dice, (0.45, 0.70), surface) * _texture(surface, scene, dice)
    metal = metal * np.where(_is("stain", labels), _stain(surface, dice), 1.0)
    metal = metal + _rim(surface, dice) + np.where(_is("dent", labels), _dent(surface, dice), 0.0)
    metal = metal + np.where(_is("scratch", labels), _scratch(surface, dice), 0.0)
    metal = metal + _dust(surface, dice)
    image = _with_holes(metal, surface, _is("missing-hole", labels), dice)
    slope = surface.x * surface.lamp[0] + surface.y * surface.lamp[1]
    lit = (
        image
        * _uniform(dice, scene.brightness, surface)
        * (1 + _uniform(dice, scene.gradient, surface) * slope)
    )
    seen = lit + _uniform(dice, scene.noise, surface) * dice.standard_normal(image.shape)
    return np.rint(np.clip(seen, 0, 1) * ADC_STEPS) / ADC_STEPS


def _placed(count: int, scene: Scene, dice: np.random.Generator) -> Surface:
    grid = (np.arange(SIDE) + 0.5) * PIXEL - 1
    x, y = grid[None, None, :], grid[None, :, None]
    column = (count, 1, 1)
    turned = np.deg2rad(dice.uniform(*scene.turned_deg, column))
    size = dice.uniform(*scene.size, column)
    right, down = dice.uniform(-scene.off_centre, scene.off_centre, (2, *column))
    across = ((x - right) * np.cos(turned) + (y - down) * np.sin(turned)) / size
    along = (-(x - right) * np.sin(turned) + (y - down) * np.cos(turned)) / size
    low, high = np.array(scene.lamp_deg).T[:, dice.integers(len(scene.lamp_deg), size=column)]
    lamp = np.deg2rad(low + dice.uniform(size=column) * (high - low))
    towards = np.stack([np.cos(lamp), -np.sin(lamp)])
    return Surface(x, y, across, along, towards, dice.uniform(*scene.severity, column))


def _texture(surface: Surface, scene: Scene, dice: np.random.Generator) -> np.ndarray:
    """Turned plates have rings about their centre, brushed ones lines along their own axis."""
    rings = _uniform(dice, (5, 9), surface) * surface.radius
    lines = _uniform(dice, (5, 9), surface) * surface.across
    turned = dice.uniform(size=(len(surface.across), 1, 1)) < 0.5
    marks = np.sin(2 * np.pi * (np.where(turned, rings, lines) + _uniform(dice, (0, 1), surface)))
    grain = dice.standard_normal(surface.across.shape)
    return 1 + _uniform(dice, scene.texture, surface) * (0.7 * marks + 0.5 * grain)


def _rim(surface: Surface, dice: np.random.Generator) -> np.ndarray:
    """The chamfer: bright where it faces the lamp, dark on the other side."""
    outwards_x, outwards_y = _image_direction(surface)
    facing = outwards_x * surface.lamp[0] + outwards_y * surface.lamp[1]
    band = np.exp(-(((surface.radius - 0.93) / 0.06) ** 2))
    return _uniform(dice, (0.10, 0.30), surface) * facing * band


def _image_direction(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    centre_x = (surface.x * (surface.radius < 1)).sum((1, 2)) / (surface.radius < 1).sum((1, 2))
    centre_y = (surface.y * (surface.radius < 1)).sum((1, 2)) / (surface.radius < 1).sum((1, 2))
    right, down = surface.x - centre_x[:, None, None], surface.y - centre_y[:, None, None]
    length = np.hypot(right, down) + 1e-9
    return right / length, down / length


def _with_holes(
    metal: np.ndarray, surface: Surface, one_missing: np.ndarray, dice: np.random.Generator
) -> np.ndarray:
    """Cut the plate out of the conveyor, the bore and the bolt holes out of the plate."""
    belt = _uniform(dice, (0.08, 0.28), surface)
    depth = _uniform(dice, (0.15, 0.6), surface)  # how dark the ground of a hole is against the belt
    image = belt + (metal - belt) * _inside(1 - surface.radius)
    image = _cut(image, _inside(_uniform(dice, (0.20, 0.27), surface) - surface.radius), belt * depth)
    radius = _uniform(dice, (0.11, 0.14), surface)
    absent = dice.integers(len(HOLES), size=one_missing.shape)
    for index, angle in enumerate(HOLES):
        away = np.hypot(
            surface.across - HOLE_CIRCLE * np.cos(angle), surface.along - HOLE_CIRCLE * np.sin(angle)
        )
        drilled = ~(one_missing & (absent == index))
        image = _cut(image, drilled * _inside(radius - away), belt * depth)
    return image


def _scratch(surface: Surface, dice: np.random.Generator) -> np.ndarray:
    """A thin line through a random place, slightly bent, brighter than the metal two times in three."""
    x0, y0 = _place(surface, dice, (0.0, 0.75))
    angle = _uniform(dice, (0, np.pi), surface)
    along = (surface.across - x0) * np.cos(angle) + (surface.along - y0) * np.sin(angle)
    across = -(surface.across - x0) * np.sin(angle) + (surface.along - y0) * np.cos(angle)
    across = across + _uniform(dice, (-0.25, 0.25), surface) * along**2
    half = _uniform(dice, (0.25, 0.60), surface)
    width = _uniform(dice, (0.025, 0.045), surface)
    sign = np.where(_uniform(dice, (0, 1), surface) < 2 / 3, 1.0, -0.8)
    line = np.exp(-0.5 * (across / width) ** 2) * _inside((half - np.abs(along)) / 2)
    return 0.85 * surface.severity * sign * line


def _dent(surface: Surface, dice: np.random.Generator) -> np.ndarray:
    """A Gaussian hollow: the far side faces the lamp and is bright, the near side is in its own shade."""
    x0, y0 = _place(surface, dice, (0.0, 0.80))
    width = _uniform(dice, (0.09, 0.16), surface)
    right, down = surface.across - x0, surface.along - y0
    hollow = np.exp(-0.5 * (right**2 + down**2) / width**2)
    # The lamp in the plate's axes, from the gradient of its coordinates.
    lamp_across = surface.lamp[0] * _slope(surface.across, 2) + surface.lamp[1] * _slope(surface.across, 1)
    lamp_along = surface.lamp[0] * _slope(surface.along, 2) + surface.lamp[1] * _slope(surface.along, 1)
    length = np.hypot(lamp_across, lamp_along)
    return -0.85 * surface.severity * (right * lamp_across + down * lamp_along) / (length * width) * hollow


def _stain(surface: Surface, dice: np.random.Generator) -> np.ndarray:
    """Oil or rust: an irregular outline, soft, that swallows a part of the light."""
    x0, y0 = _place(surface, dice, (0.0, 0.70))
    right, down = surface.across - x0, surface.along - y0
    angle = np.arctan2(down, right)
    outline = _uniform(dice, (0.16, 0.32), surface) * (
        1
        + 0.25 * np.cos(2 * angle + _uniform(dice, (0, 6.3), surface))
        + 0.15 * np.cos(3 * angle + _uniform(dice, (0, 6.3), surface))
    )
    soft = 1 / (1 + np.exp(-(outline - np.hypot(right, down)) / _uniform(dice, (0.02, 0.06), surface)))
    return 1 - 0.73 * surface.severity * soft


def _dust(surface: Surface, dice: np.random.Generator) -> np.ndarray:
    """Up to three specks, which are no defect."""
    specks = np.zeros_like(surface.across)
    for _ in range(3):
        x0, y0 = _place(surface, dice, (0.0, 0.95))
        near = ((surface.across - x0) ** 2 + (surface.along - y0) ** 2) / 0.03**2
        shown = np.maximum(0.0, _uniform(dice, (-0.2, 0.25), surface))
        specks = specks + shown * np.where(_uniform(dice, (0, 1), surface) < 0.5, 1, -1) * np.exp(-near / 2)
    return specks


def _is(label: str, labels: np.ndarray) -> np.ndarray:
    return np.asarray(labels == LABELS.index(label))[:, None, None]


def _place(
    surface: Surface, dice: np.random.Generator, radius: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """A place on the plate, clear of the bore and of the bolt holes: drawn between them."""
    distance = _uniform(dice, (max(radius[0], 0.36), radius[1]), surface)
    # Bolt holes are 0.60 from the centre at 45° and so on: within ±26° of the plate's axes nothing is cut.
    quarter = np.pi / 2 * dice.integers(4, size=distance.shape)
    angle = quarter + np.deg2rad(_uniform(dice, (-26, 26), surface))
    return distance * np.cos(angle), distance * np.sin(angle)


def _uniform(dice: np.random.Generator, bounds: tuple[float, float], surface: Surface) -> np.ndarray:
    return dice.uniform(*bounds, (len(surface.across), 1, 1))


def _slope(coordinate: np.ndarray, axis: int) -> np.ndarray:
    return np.diff(coordinate, axis=axis).mean((1, 2), keepdims=True)


def _inside(distance: np.ndarray) -> np.ndarray:
    """Coverage of a pixel whose centre is `distance` inside an edge."""
    return np.clip(distance / PIXEL + 0.5, 0, 1)


def _cut(image: np.ndarray, coverage: np.ndarray, ground: np.ndarray) -> np.ndarray:
    return image + (ground - image) * coverage
