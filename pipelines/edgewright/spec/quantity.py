"""Quantities are written with their unit and read as plain numbers in one base unit each.

>>> BYTES.parse("4GiB")
4294967296
>>> MILLISECONDS.parse("1.5s")
1500.0
>>> MILLISECONDS.parse(30)
Traceback (most recent call last):
ValueError: a duration needs a unit: write 30ms
>>> SECONDS.format(1209600.0)
'14d'

Units are case-sensitive (`MB` is not `Mb`) and follow the number without a space; binary and decimal prefixes
mean what they say: `1kB` is 1000 bytes, `1KiB` is 1024 (IEC 80000-13). What is only counted needs no unit:

>>> COUNT.parse("2.5M"), COUNT.parse(345108)
(2500000, 345108)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

# Fifteen digits hold a petabyte in bytes exactly in a float, too; nothing a sheet describes needs more.
_NUMBER = re.compile(r"([+-]?)([0-9]{1,15})(?:\.([0-9]{1,9}))?")
_NUMBER_PATTERN = r"[0-9]{1,15}(\.[0-9]{1,9})?"

IN_BASE_UNITS: Mapping[str, str] = {"quantities": "plain numbers in their base units"}
"""pydantic's validation context for a spec that was read before and dumped as numbers, never for YAML."""


@dataclass(frozen=True, eq=False)
class Quantity:
    """One kind of quantity: its units and what a number of it becomes.

    Attributes:
        noun: What it is called in messages, with its article.
        units: Unit → (numerator, denominator) of its factor to the base unit, smallest first; with the unit "" a bare
            number is right, too.
        usual: Unit put after a bare number when a message shows what would be right.
        examples: Two or so values as people write them.
        whole: Whether the base unit is indivisible (bytes, bits per second): the result is an int.
        signed: Whether a minus sign makes sense.
        zero: Whether nothing at all is a sensible amount.
        maximum: Largest sensible value in the base unit.
        near: Units people write elsewhere → the one meant here; only for suggestions.
    """

    noun: str
    units: Mapping[str, tuple[int, int]]
    usual: str
    examples: tuple[str, ...]
    whole: bool = False
    signed: bool = False
    zero: bool = False
    maximum: float | None = None
    near: Mapping[str, str] = field(default_factory=dict)

    def parse(self, value: object) -> int | float:
        """Return `value` ("30ms") in the base unit.

        Raises:
            ValueError: It is not text, has no unit or an unknown one, or is out of range; says what to write.
        """
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if "" not in self.units:
                raise ValueError(f"{self.noun} needs a unit: write {self._with_unit(value)}")
            value = _digits(value)
        if not isinstance(value, str):
            raise ValueError(f"must be {self.noun} such as {self.examples[0]}")
        match = _NUMBER.match(value)
        if match is None:
            raise ValueError(f"must be {self.noun}: {self._form('a unit')}, such as {self.examples[0]}")
        unit = value[match.end() :]
        if unit not in self.units:
            raise ValueError(self._unit_message(match.group(), unit))
        sign, digits, decimals = match.group(1), match.group(2), match.group(3) or ""
        factor, divisor = self.units[unit]
        # Integer arithmetic until the last step: 1.1MB must be 1100000 bytes, not 1100000.0000000002.
        scaled: int = int(digits + decimals) * factor
        divisor *= int("1" + "0" * len(decimals))
        if sign and not self.signed:
            raise ValueError(f"{self.noun} has no sign: write {value[1:]}")
        if not scaled and not self.zero:
            raise ValueError(f"must be more than nothing, such as {self.examples[0]}")
        if self.maximum is not None and scaled > self.maximum * divisor:
            most = self.format(self.maximum)
            raise ValueError(
                f"must be between -{most} and {most}" if self.signed else f"must be at most {most}"
            )
        if not self.whole:
            return -scaled / divisor if sign == "-" else scaled / divisor
        if scaled % divisor:
            raise ValueError(f"must come to a whole number of {next(iter(self.units))}".removesuffix(" of "))
        return scaled // divisor

    def format(self, number: float) -> str:
        """Return `number` (base unit) the way a person would write it, in the unit with the fewest digits."""
        best = ""
        for unit, (factor, divisor) in self.units.items():
            amount = number * divisor / factor
            text = f"{amount:.0f}" if amount == int(amount) else f"{amount:.3f}".rstrip("0").rstrip(".")
            if float(text) * factor / divisor == number and (not best or len(text + unit) < len(best)):
                best = text + unit
        return best or f"{number:g}{next(iter(self.units))}"

    @property
    def pattern(self) -> str:
        """Regular expression (ECMA-262) of a value, for editors."""
        sign = "[+-]?" if self.signed else ""
        return f"^{sign}{_NUMBER_PATTERN}({'|'.join(map(re.escape, self.units))})$"

    def _form(self, unit: str) -> str:
        """Return in words what a person writes; `unit` stands for the units there are."""
        return f"a number, alone or with {unit}" if "" in self.units else f"a number and {unit}"

    def _with_unit(self, value: float) -> str:
        number = _digits(value)
        base = next(iter(self.units))
        large = self.whole and value >= 65536  # someone wrote the base unit: 4294967296, not "4294967296 MiB"
        return f"{number}{base if large else self.usual}"

    def _unit_message(self, number: str, unit: str) -> str:
        bare = unit.strip()
        if not bare and "" not in self.units:
            return f"{self.noun} needs a unit: write {number}{self.usual}"
        meant = [known for known in self.units if known.lower() == bare.lower()]
        if not meant and bare.lower() in self.near:
            meant = [self.near[bare.lower()]]
        if not meant:
            meant = [known for known in self.units if known.lower().startswith(bare.lower())]
        if meant:
            return f"{number}{unit!s} is not {self.noun}: write {' or '.join(number + u for u in meant[:2])}"
        return f"unknown unit {bare[:20]!r} of {self.noun}; units are {', '.join(filter(None, self.units))}"

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Let pydantic read the text and keep the number."""
        return core_schema.with_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the text a person writes, with the message an editor shows for a wrong one."""
        units = list(filter(None, self.units))
        return {
            # "pattern" speaks of texts only (JSON Schema 2020-12, Validation 6.3.3), so it bears bare numbers.
            "type": ["string", "number"] if "" in self.units else "string",
            "title": self.noun.removeprefix("a "),
            "pattern": self.pattern,
            "examples": list(self.examples),
            "x-units": units,
            "patternErrorMessage": f"must be {self.noun}: {self._form('one of ' + ', '.join(units))}",
        }

    def _validate(self, value: Any, info: core_schema.ValidationInfo[Any]) -> int | float:
        if info.context is IN_BASE_UNITS and isinstance(value, (int, float)):
            return value
        try:
            return self.parse(value)
        except ValueError as problem:
            # As an argument, not as the template: braces in what a person wrote are not placeholders.
            raise PydanticCustomError("quantity", "{message}", {"message": str(problem)}) from None


def _digits(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".") if isinstance(number, float) else str(number)


def _scale(base: str, *prefixes: str) -> dict[str, tuple[int, int]]:
    factors = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    binary = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return {prefix + base: ((factors | binary).get(prefix, 1), 1) for prefix in ("", *prefixes)}


_BYTE_PREFIXES = ("k", "Ki", "M", "Mi", "G", "Gi", "T", "Ti")
_TIME_WORDS = {
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("msec", "msecs", "millis", "milliseconds"), "ms"),
}

BYTES = Quantity(
    "a size", _scale("B", *_BYTE_PREFIXES), "MiB", ("256MiB", "4GiB", "20MB"), whole=True, zero=True
)
MILLISECONDS = Quantity(
    "a duration", {"us": (1, 1000), "ms": (1, 1), "s": (1000, 1)}, "ms", ("30ms", "1.5s"), near=_TIME_WORDS
)
SECONDS = Quantity(
    "a duration",
    {"ms": (1, 1000), "s": (1, 1), "m": (60, 1), "h": (3600, 1), "d": (86400, 1)},
    "s",
    ("30s", "15m", "7d"),
    near=_TIME_WORDS
    | dict.fromkeys(("min", "mins", "minute", "minutes"), "m")
    | dict.fromkeys(("hr", "hour", "hours"), "h")
    | dict.fromkeys(("day", "days"), "d"),
)
BYTES_PER_SECOND = Quantity(
    "a byte rate",
    _scale("B/s", *_BYTE_PREFIXES[:6]),
    "MB/s",
    ("90MB/s", "1.2GB/s"),
    whole=True,
    near={"kbps": "kB/s", "mbps": "MB/s", "gbps": "GB/s"},
)
BITS_PER_SECOND = Quantity(
    "a bit rate",
    _scale("bit/s", "k", "M", "G"),
    "Mbit/s",
    ("10Mbit/s", "256kbit/s"),
    whole=True,
    near={
        **dict.fromkeys(("bps", "b/s"), "bit/s"),
        **dict.fromkeys(("kbps", "kb/s", "kbit", "k"), "kbit/s"),
        **dict.fromkeys(("mbps", "mb/s", "mbit", "m"), "Mbit/s"),
        **dict.fromkeys(("gbps", "gb/s", "gbit", "g"), "Gbit/s"),
    },
)
MEGAHERTZ = Quantity("a frequency", {"MHz": (1, 1), "GHz": (1000, 1)}, "MHz", ("1.5GHz", "800MHz"))
WATTS = Quantity("a power", {"mW": (1, 1000), "W": (1, 1), "kW": (1000, 1)}, "W", ("15W", "7.5W"))
CELSIUS = Quantity(
    "a temperature",
    {"C": (1, 1), "°C": (1, 1)},
    "C",
    ("85C", "85°C"),
    signed=True,
    zero=True,
    near={"celsius": "C", "degc": "C", "deg": "C"},
)
PERCENT = Quantity("a share", {"%": (1, 1)}, "%", ("20%",), zero=True, maximum=100, near={"percent": "%"})
COUNT = Quantity(
    "a count",
    _scale("", "k", "M", "G", "T"),
    "M",
    ("2.5M", "120M"),
    whole=True,
    near={"mio": "M", "million": "M", "mi": "M", "b": "G", "bn": "G", "billion": "G", "thousand": "k"},
)

Bytes = Annotated[int, BYTES]
"""A size; read as bytes."""
Milliseconds = Annotated[float, MILLISECONDS]
"""A short duration; read as milliseconds."""
Seconds = Annotated[float, SECONDS]
"""A long duration; read as seconds."""
BytesPerSecond = Annotated[int, BYTES_PER_SECOND]
"""A storage rate; read as bytes per second."""
BitsPerSecond = Annotated[int, BITS_PER_SECOND]
"""A network rate; read as bits per second."""
Megahertz = Annotated[float, MEGAHERTZ]
"""A clock; read as megahertz."""
Watts = Annotated[float, WATTS]
"""A power; read as watts."""
Celsius = Annotated[float, CELSIUS]
"""A temperature; read as degrees Celsius."""
Percent = Annotated[float, PERCENT]
"""A share of a hundred; read as percent."""
Count = Annotated[int, COUNT]
"""How many; read as a whole number."""
