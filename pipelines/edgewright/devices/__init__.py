"""Devices as a fleet knows them: enrolled in Git, certified by the fleet's own authority, revoked for a reason.

There is no server that devices ask for a certificate. The authority is a command that CI runs; what it issues lies in
the registry beside everything else a device fetches.

>>> certify(workspace, open_authority(workspace), registry, now=now)     # doctest: +SKIP
"""
