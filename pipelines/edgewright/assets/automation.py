"""When Dagster may start a step by itself (the default sensor is off until an operator turns it on).

Dagster's own `eager()` never builds assets that were already missing at its first evaluation, so a class added by YAML
would do nothing; this condition handles first build, edit, new class and failure.
"""

from __future__ import annotations

import dagster as dg


def when_inputs_change() -> dg.AutomationCondition:
    """Return the condition: missing or changed, once per change, after healthy and finished dependencies."""
    condition = dg.AutomationCondition
    handled = condition.newly_requested() | condition.newly_updated()
    due = condition.missing().newly_true() | condition.code_version_changed() | condition.any_deps_updated()
    return (
        due.since(handled)
        & ~condition.any_deps_missing()
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
        & condition.all_deps_blocking_checks_passed()
    )
