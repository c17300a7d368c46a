"""Run one command and print what the kernel says it cost: CPU seconds and peak memory, of it and of its children.

$ python -S tests/benchmarks/accounted.py /bin/true
{"cpu_s": 0.0, "peak_mib": 9.4, "exit_code": 0}

A process inherits the peak of the one it was started from (Linux counts the memory from before exec), so a small one,
this, must stand between a test runner and what is measured.
"""

import json
import os
import sys

quiet = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, quiet, 1)]
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, usage = os.wait4(pid, 0)
found = {
    "cpu_s": usage.ru_utime + usage.ru_stime,
    "peak_mib": usage.ru_maxrss / 1024,
    "exit_code": os.waitstatus_to_exitcode(status),
}
print(json.dumps(found))
