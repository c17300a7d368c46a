"""What the command line can do, one file per verb.

A module here has `add(verb)`, which describes its verb and sets `run`, and `run(options)`, which does it and returns
the exit code. All of them are imported to show help, so what a verb needs is imported where it runs.

>>> def add(verb):
...     verb("pin", "stay with what runs", model=True).set_defaults(run=run)
"""

from __future__ import annotations

MODULES: tuple[str, ...] = (  # in the order in which help shows them, after the verbs of `arguments`
    "top",
    "rollback",
    "retry",
    "pin",
    "unpin",
    "factory",
    "evidence",
    "acknowledge",
    "telemetry",
    "metered",
    "install",
    "doctor",
)
