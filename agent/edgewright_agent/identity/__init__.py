"""Who this device is: a key born here, a certificate for it, its renewal, and reports signed with it.

The key never leaves the device, or its TPM. A device is enrolled by a reviewed change of the fleet's repository; the
fleet's device authority then issues a short-lived certificate, which the device fetches and renews by itself.

>>> key = create(Path("/etc/edgewright/device.key"), Disk())              # doctest: +SKIP
>>> csr = request(key, "pi-7")                                           # doctest: +SKIP
"""
