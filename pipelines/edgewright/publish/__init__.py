"""Package, sign and push: what turns the files of a gated lane into an OCI artifact other tools can read.

`package`, `sign`, `push` and `version` are the stages; `registry` is where bytes go; `oci` and `statement`
are the formats, as pure functions.
"""
