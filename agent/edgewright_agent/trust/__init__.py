"""What a device believes: TUF says what it should run now, Sigstore who built it and that its gates passed.

`trust.tuf` and `trust.sigstore` import heavy libraries, so this package imports neither: the idle daemon
loads them in a short-lived child only.

>>> from edgewright_agent.trust.tuf import refresh                 # doctest: +SKIP
>>> desired = refresh(source, cache=cache, root=root, floor={})    # doctest: +SKIP
"""
