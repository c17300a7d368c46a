"""The lines: what machines, sensors and their controllers write into a plant's logs, generated from phrasings.

A line is a host, a program and a message; a message is one of a label's phrasings with its blanks filled in:

    {part} temperature {hot} C [exceeds|above] limit {limit} C  →  spindle temperature 97 C above limit 85 C

Three vendors write them, `KNOWN`, `BETWEEN` and `OTHER`: they share no phrasing, only the language of the trade. Hosts,
programs and people's names differ, too. Words that name the trouble occur
in harmless lines as well ("temperature 41 C", "link up", "calibration of sensor finished"), so no single word decides.

>>> dice = random.Random(1)
>>> written("overheating", KNOWN, dice)
'mill-09 plc: cooling of cabinet weak, 118 C and rising'
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

LABELS = ("routine", "sensor-fault", "overheating", "network", "operator")


@dataclass(frozen=True)
class Vendor:
    """Who writes: hosts, programs, people, and phrasings by label.

    Attributes:
        words: Blank → what it may be filled with, besides those every vendor shares (`SHARED`).
        phrasings: Label → messages with blanks.
    """

    hosts: tuple[str, ...]
    programs: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    phrasings: Mapping[str, tuple[str, ...]]


SHARED: Mapping[str, tuple[str, ...]] = {
    "part": (
        "spindle", "gearbox", "motor", "pump", "bearing", "drive", "hydraulic oil", "cabinet", "inverter", "coolant",
    ),
    "sensor": (
        "thermocouple", "pressure sensor", "accelerometer", "flow meter", "level probe", "encoder", "proximity switch",
        "load cell", "camera", "current sensor", "temperature sensor", "vibration sensor",
    ),
    "quantity": ("pressure", "temperature", "vibration", "flow", "level", "current", "torque", "speed"),
    "link": ("eth0", "eth1", "wlan0", "port 3", "uplink", "fieldbus segment 2", "profinet port"),
    "peer": ("broker", "historian", "gateway", "scada server", "edge node", "time server", "registry"),
}  # fmt: skip

KNOWN = Vendor(
    hosts=("press", "mill", "lathe", "oven", "conveyor", "robot", "packer", "pumphouse"),
    programs=("plc", "drive", "hmi", "agent", "monitor", "ctrl"),
    words={
        "person": ("mueller", "garcia", "chen", "okafor", "dubois", "novak"),
        "mode": ("manual", "automatic", "setup", "jog", "service"),
        "item": (
            "recipe",
            "tool table",
            "speed setpoint",
            "alarm list",
            "shift plan",
            "program",
            "parameter",
        ),
    },
    phrasings={
        "routine": (
            "cycle {n} [finished|complete|done] in {small}.{digit} s",
            "{part} [temperature|temp] {cool} C [within limits|normal|ok|below limit {limit} C]",
            "{quantity} {n} [ok|normal|stable|as expected|in range]",
            "heartbeat {n}[| ok| sent to {peer}| received from {peer}]",
            "self [test|check] [passed|ok|completed], {small} checks[|, no errors]",
            "[started|starting] batch {n}, {n} parts [planned|ordered|to go]",
            "batch {n} completed without [rejects|faults|errors], {n} parts [made|produced]",
            "[lubrication|cleaning|flushing] cycle of {part} [done|finished]",
            "{sensor} {small} [calibrated|calibration finished|checked and released], offset 0.{digit}",
            "[connected to|registered with|synchronized with] {peer}, [session|id] {n}",
            "[new|secure] connection to {peer} [open|opened|accepted]",
            "log [rotated|archived], {n} lines [archived|kept|written]",
            "uptime {n} h, load 0.{digit}",
            "{part} [started|starting|ready], ramp {small} s",
            "{part} [stopped as planned|switched off at end of shift|on standby|waiting for parts]",
            "[scheduled|next|regular] [maintenance|inspection|oil change] [in|due in] {n} h",
            "report for shift {digit} sent to {peer}",
            "{link} up, 100 Mbit/s full duplex",
            "[fan speed|speed] {n} rpm, {part} at {cool} C",
            "average {quantity} {n} over {small} cycles",
            "hour counter {n}, [energy|air] used {n}",
            "{part} [warm-up|heating] finished at {cool} C",
            "{sensor} {small} [value|reading] {n}, [normal|valid|ok]",
            "backup of {n} files to {peer} [finished|verified]",
        ),
        "sensor-fault": (
            "{sensor} {small} [no|lost|missing] signal",
            "{sensor} {small} [reading|value|output] [stuck|frozen|constant] at {n}",
            "{sensor} open circuit on [channel|input] {digit}",
            "{sensor} {small} [out of range|beyond its range|below range]: {n}",
            "[implausible|impossible|invalid] {quantity} {n} from {sensor}",
            "{sensor} on {part} [wire break|cable break|broken cable] [detected|suspected]",
            "{quantity} signal [noisy|unstable|erratic], {sensor} {small} suspected",
            "{sensor} {small} [failed|did not pass] [calibration|check], offset {n}",
            "short circuit at {sensor} input {digit}",
            "{sensor} {small} [drift|drifting|drifted] {n} percent, replace",
            "checksum error reading {sensor} {small}",
            "{quantity} channel {digit} [invalid|bad|faulty], value [frozen|ignored]",
            "redundant {sensor} [disagree|differ|deviate] by {n}",
            "{sensor} {small} not responding, using substitute value",
            "[nan|no valid value|garbage] received from {sensor} {small}",
            "{sensor} lens dirty, image rejected",
            "[defective|broken|faulty] {sensor} {small}, check [wiring|plug|cable]",
            "{quantity} reading [lost|missing|absent] for {n} s, {sensor} dead",
            "{sensor} {small} marked as [failed|bad|unusable]",
            "two {sensor} inputs contradict: {n} and {n}",
        ),
        "overheating": (
            "{part} [temperature|temp] {hot} C [exceeds|over|above] [limit|maximum] {limit} C",
            "{part} too hot[|: {hot} C|, stopping]",
            "thermal [shutdown|stop|trip] of {part} at {hot} C",
            "[overtemperature|over temperature] {part}, [derating to {small} percent|power limited]",
            "cooling of {part} [insufficient|failed|blocked|weak], {hot} C and rising",
            "{part} overheated, [cycle|machine] [stopped|halted|paused]",
            "fan {digit} [failed|blocked|stopped], {part} at {hot} C",
            "high temperature [alarm|warning] {part} {hot} C",
            "cpu throttled at {hot} C",
            "coolant flow low, {part} reached {hot} C",
            "temperature of {part} [rising|climbing] {small} K per minute, now {hot} C",
            "thermal [limit|protection] of {part} [reached|active|tripped], power reduced",
            "{part} hot, waiting to cool down below {limit} C",
            "[warning|alarm]: [heat sink|winding|radiator] {hot} C, limit {limit} C",
            "motor protection tripped, winding {hot} C",
            "{part} temperature [critical|dangerous|too high]",
            "{part} over limit temperature since {n} s",
            "heat [alarm|warning] at {part}, {hot} C",
            "[excessive heat|overheating] at {part}, speed reduced to {small} percent",
            "emergency cooling of {part} started at {hot} C",
        ),
        "network": (
            "{link} [down|lost|no carrier]",
            "[connection|link] to {peer} [lost|broken|closed] after {n} s",
            "[timeout|timed out] [waiting for|connecting to] {peer}, retry {digit}",
            "cannot reach {peer}: no route to host",
            "dns [lookup of|query for] {peer} failed",
            "[packet|telegram] loss {small} percent on {link}",
            "{peer} [refused|rejected] connection on port {n}",
            "[reconnecting|trying to connect] to {peer}, attempt {digit}",
            "tls handshake with {peer} [failed|timed out]",
            "duplicate ip address on {link}",
            "{n} [messages|records|values] [queued|buffered|waiting], {peer} [unreachable|offline|not reachable]",
            "{link} flapping, {digit} changes in {small} s",
            "dhcp lease lost on {link}",
            "latency to {peer} {n} ms, limit {small} ms",
            "fieldbus [telegram|frame] missing from node {small}",
            "upload to {peer} [aborted|failed], link broken",
            "no [answer|reply] from {peer} [for|since] {n} s",
            "{peer} [offline|gone|unavailable], [storing|keeping] data locally",
            "bus node {small} [silent|absent|disconnected]",
            "[host name|address] of {peer} unknown",
        ),
        "operator": (
            "{person} changed {item} from {n} to {n}",
            "[emergency stop|stop] [pressed|pushed|hit] at panel {digit}",
            "user {person} logged [in|out] at [hmi|panel|terminal]",
            "guard door {digit} [opened|open] during cycle",
            "{mode} mode selected by {person}",
            "wrong [password|pin|code] [for|from] user {person}",
            "{person} [acknowledged|confirmed|cleared] alarm {n}",
            "key switch turned to {mode}",
            "{item} {n} [loaded|selected|edited|deleted] by {person}",
            "cycle [aborted|stopped|cancelled] by {person}",
            "light curtain interrupted at station {digit}",
            "{person} reset counter {n}",
            "stop button [pressed|released] on panel {digit}",
            "{person} [overrode|raised|changed] {quantity} limit to {n}",
            "hand wheel enabled, {mode} mode",
            "tool {small} [replaced|changed|measured] by {person}",
            "[login|badge|access] of {person} [refused|denied|accepted] at panel {digit}",
            "user {person} [started|loaded|edited] {item} {n}",
            "{person} opened [cover|door|hood] {digit}",
            "machine [unlocked|locked|released] by {person}",
        ),
    },
)

BETWEEN = Vendor(
    hosts=("saw", "kiln", "palletizer", "labeller", "boiler"),
    programs=("rtu", "logic", "station", "node"),
    words={
        "person": ("smith", "rossi", "yilmaz", "jensen"),
        "mode": ("step", "manual", "automatic", "cleaning"),
        "item": ("program", "setpoint", "order list", "recipe"),
    },
    phrasings={
        "routine": (
            "order {n} finished, {n} parts good",
            "{part} runs at {n} rpm and {cool} C",
            "{quantity} {n}, no deviation",
            "checks finished: {small} of {small} passed",
            "data of shift {digit} written to {peer}",
            "{part} ready after {small} s",
        ),
        "sensor-fault": (
            "{sensor} {small} delivers no value",
            "{sensor} signal constant at {n}, cable suspected",
            "{quantity} {n} impossible, check {sensor}",
            "{sensor} {small} lost its calibration",
            "open wire on input {digit}, {sensor} dead",
            "both {sensor} deviate by {n}",
        ),
        "overheating": (
            "{part} {hot} C, stop at {limit} C",
            "heat protection stopped {part}",
            "{part} above maximum temperature",
            "speed limited, {part} overheated to {hot} C",
            "{part} must cool below {limit} C before restart",
            "blocked radiator, {part} now {hot} C",
        ),
        "network": (
            "{peer} gone from {link}",
            "no reply within {n} ms from {peer}",
            "{link} disconnected",
            "{n} values stored, waiting for {peer} to return",
            "resolving {peer} failed",
            "{small} frames missing on {link}",
        ),
        "operator": (
            "panel {digit}: stop pushed",
            "{person} selected {item} {n}",
            "cover {digit} open, cycle interrupted by {person}",
            "terminal unlocked with badge of {person}",
            "{person} set {quantity} limit to {n}",
            "{person} cleared alarm list in {mode} mode",
        ),
    },
)

OTHER = Vendor(
    hosts=("grinder", "furnace", "crane", "mixer", "extruder", "welder"),
    programs=("safety", "cell", "daq", "supervisor"),
    words={
        "person": ("ivanova", "haddad", "tanaka", "lindqvist"),
        "mode": ("teach", "manual", "maintenance", "automatic"),
        "item": ("program", "setpoint", "parameter set", "recipe"),
    },
    phrasings={
        "routine": (
            "{part} running at {n} rpm, temperature normal at {cool} C",
            "{n} parts produced, batch {n} closed",
            "daily self test finished, no faults",
            "all {small} channels calibrated and ok",
            "session with {peer} established",
            "{part} idle for {n} s, entering standby",
            "archived {n} lines, next rotation in {small} h",
            "maintenance counter {n} h, next service planned",
            "{quantity} steady at {n}, within limits",
            "cycle time {small}.{digit} s, average of {n} cycles",
        ),
        "sensor-fault": (
            "signal of {sensor} {small} lost",
            "no valid reading from {sensor} for {n} s",
            "{sensor} value frozen at {n}, check wiring",
            "{quantity} measurement implausible, {sensor} on channel {digit} marked bad",
            "broken wire at {sensor} {small}",
            "{sensor} {small} failed self test",
            "input {digit}: {sensor} short circuit",
            "{sensor} readings disagree, {n} against {n}",
            "offset of {sensor} {small} drifted, recalibrate or replace",
            "excessive noise on {sensor} channel {digit}",
        ),
        "overheating": (
            "{part} at {hot} C, maximum is {limit} C",
            "shutting down {part}: too hot",
            "{part} temperature above limit for {n} s",
            "power reduced to {small} percent, {part} hot",
            "overheating of {part} detected, {hot} C",
            "heat exchanger blocked, {part} rising to {hot} C",
            "{part} thermal protection tripped",
            "critical temperature {hot} C at {part}, cooling failed",
            "cycle paused until {part} cools below {limit} C",
            "winding of {part} reached {hot} C, thermal alarm",
        ),
        "network": (
            "lost {peer} on {link}",
            "{peer} does not answer, retry in {small} s",
            "no connection to {peer} since {n} s",
            "{link} carrier lost",
            "name of {peer} cannot be resolved, dns timeout",
            "{n} packets dropped on {link}",
            "buffering {n} records until {peer} is reachable",
            "handshake with {peer} timed out",
            "node {small} missing on fieldbus",
            "round trip to {peer} {n} ms, link degraded",
        ),
        "operator": (
            "{person} pressed stop at panel {digit}",
            "door {digit} opened while {part} running",
            "login of {person} at station {digit}",
            "{item} changed to {n} by {person}",
            "switched to {mode} by user {person}",
            "access denied for {person}, wrong badge",
            "alarm {n} acknowledged at hmi, user {person}",
            "emergency stop released and reset by {person}",
            "{person} loaded {item} {n}",
            "{quantity} limit overridden by {person}",
        ),
    },
)  # fmt: skip


def written(label: str, vendor: Vendor, dice: random.Random) -> str:
    """Return one line that a person would file under `label`."""
    phrasing = dice.choice(vendor.phrasings[label])
    host = f"{dice.choice(vendor.hosts)}-{dice.randint(1, 24):02d}"
    return f"{host} {dice.choice(vendor.programs)}: {_filled(phrasing, vendor, dice)}"


def _filled(phrasing: str, vendor: Vendor, dice: random.Random) -> str:
    words = {**SHARED, **vendor.words}
    numbers = {
        "digit": (1, 9),
        "small": (2, 60),
        "n": (3, 9999),
        "cool": (22, 68),
        "limit": (70, 90),
        "hot": (88, 139),
    }
    parts = _chosen(phrasing, dice).split("{")
    filled = [parts[0]]
    for part in parts[1:]:
        blank, _, rest = part.partition("}")
        value = str(dice.randint(*numbers[blank])) if blank in numbers else dice.choice(words[blank])
        filled.append(value + rest)
    return "".join(filled)


def _chosen(phrasing: str, dice: random.Random) -> str:
    """Return the phrasing with one of the wordings `[in|such|brackets]` chosen."""
    return re.sub(r"\[([^\]]*)\]", lambda match: dice.choice(match[1].split("|")), phrasing)
