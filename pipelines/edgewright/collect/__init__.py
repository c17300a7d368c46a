"""What devices say about themselves, believed only when an enrolled device signed it and never twice.

>>> accept(envelope, workspace.devices, seen, fleet="acme").device     # doctest: +SKIP
'pi-7'
"""
