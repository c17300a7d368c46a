"""What a model costs and whether its hardware class allows it: measured in fresh processes, judged in a
report.

`measure` runs `worker` processes and writes `benchmark.json`; `gate` holds the figures against the limits and
writes the `report` that is signed with the artifact; `plot` draws it.
"""
