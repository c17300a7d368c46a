"""Where groups may be made is read from the kernel's own words; they are made for real where that is permitted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgewright.bench.target.cgroup import PREFIX, Place, group, kills, limits, permitted, places

V1 = "24 23 0:21 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
OTHER = "25 23 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n36 1 254:0 / / rw - ext4 /dev/vda rw"


@pytest.mark.parametrize(
    ("memberships", "mounts", "found"),
    [
        ("4:memory:/job/7\n0::/", f"{V1}\n{OTHER}", [Place(1, Path("/sys/fs/cgroup/memory/job/7"))]),
        (
            "0::/user.slice/app.slice/shell.scope",
            f"{OTHER}\n{V2}",
            [
                Place(2, Path("/sys/fs/cgroup/user.slice/app.slice")),
                Place(2, Path("/sys/fs/cgroup/user.slice/app.slice/shell.scope")),
            ],
        ),
        ("0::/", V2, [Place(2, Path("/sys/fs/cgroup"))]),
        (
            "4:memory:/docker/3f\n0::/docker/3f",
            V1.replace("0:21 /", "0:21 /docker/3f"),
            [Place(1, Path("/sys/fs/cgroup/memory"))],
        ),
        ("0::/../other", V2, []),
        ("0::/", OTHER, []),
        ("", "", []),
    ],
    ids=["v1", "v2", "v2-top", "container", "out-of-view", "not-mounted", "none"],
)
def test_groups_are_made_in_or_beside_our_own(memberships: str, mounts: str, found: list[Place]) -> None:
    assert places(memberships, mounts) == found


def test_swap_is_no_memory() -> None:
    assert limits(2, 4096) == {"memory.max": "4096", "?memory.swap.max": "0"}
    assert limits(1, 4096)["?memory.memsw.limit_in_bytes"] == "4096"


def test_a_kill_is_read_from_either_version() -> None:
    assert kills("low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\n") == 1
    assert kills("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n") == 0


def test_a_group_is_gone_with_everything_in_it() -> None:
    place = permitted()
    if place is None:  # then there is nothing to leave behind; test_process.py tries what takes its place
        return
    with subprocess.Popen(["sleep", "600"]) as process:
        with group(place, 2**26) as made:
            made.take(process.pid)
            assert str(process.pid) in (made.folder / "cgroup.procs").read_text().split()
        assert process.wait(20) == -signal.SIGKILL
    assert not made.folder.exists()


def test_a_killed_maker_leaves_its_group_to_the_next() -> None:
    place = permitted()
    if place is None:
        return
    program = (
        "import os, signal; from edgewright.bench.target.cgroup import group, permitted\n"
        "with group(permitted(), 2**26): os.kill(os.getpid(), signal.SIGKILL)"
    )
    maker = subprocess.Popen([sys.executable, "-c", program])
    assert maker.wait(60) == -signal.SIGKILL
    assert list(place.folder.glob(f"{PREFIX}{maker.pid}-*"))
    with group(place, 2**26) as made:
        assert made.folder.name.startswith(f"{PREFIX}{os.getpid()}-")
        assert not list(place.folder.glob(f"{PREFIX}{maker.pid}-*"))
