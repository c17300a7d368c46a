"""What a device goes through while the power fails: the registry of stories.

>>> [story.name for story in STORIES][:2]
['first boot', 'install']

All that is in this package plays every story: the model of the disk, real file systems, SIGKILL. To add one, write a
class with a name, what may run after a cut and what must run in the end, and append it to its module's tuple. A story
is deterministic: the same operations in the same order each time it is played.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from crash.by_hand import BY_HAND
from crash.keeping import KEEPING
from crash.proving import PROVING
from crash.story import Story
from crash.updates import UPDATES

STORIES: tuple[Story, ...] = (*UPDATES, *PROVING, *BY_HAND, *KEEPING)


def share(story: Story, states: int, among: Sequence[Story] = STORIES) -> int:
    """Return a story's part of so many states."""
    return math.ceil(states * story.weight / sum(one.weight for one in among))


def named(name: str) -> Story:
    """Return the story of a name."""
    return next(story for story in STORIES if story.name == name)
