"""Releases that travel on a stick: one file that a device without a network installs from."""
