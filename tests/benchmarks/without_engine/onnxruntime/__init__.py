"""Stands in for an engine that is not installed, so that what an update costs can be told from its trial."""

raise ImportError("left out, to measure an update without its trial")
