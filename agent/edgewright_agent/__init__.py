"""The Edgewright device agent: poll, verify offline, install atomically, check health, commit or roll back.

>>> from edgewright_agent.runtime import open_model      # doctest: +SKIP
>>> open_model("digit-reader").run({"image": pixels})    # doctest: +SKIP
"""

__version__ = "0.1.0"
