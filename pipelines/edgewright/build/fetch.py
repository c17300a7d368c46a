"""Reads one file of bounded size from `file://` or `https://`; its digest decides whether it is the right
one.

>>> data = fetch("https://models.example/digits.safetensors")     # doctest: +SKIP
"""

from __future__ import annotations

import urllib.parse
import urllib.request
from pathlib import Path

from edgewright.errors import BuildError, NetworkError

MAX_BYTES = 2 * 2**30  # an ONNX model in one file cannot be larger (protobuf)
TIMEOUT_S = 30.0
_CHUNK = 1 << 20


def fetch(uri: str, *, shown: str | None = None, limit_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes behind `uri`.

    Args:
        uri: `file://` or `https://` address.
        shown: How to name the file in messages; the address itself by default.
        limit_bytes: Longest file that is read.

    Raises:
        BuildError: another scheme (also after a redirect), no such file, not readable, or too large.
        NetworkError: the server cannot be reached or answers with an error.
    """
    name = shown or uri
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme == "file":
        return _read_file(Path(urllib.request.url2pathname(parts.path)), name, limit_bytes)
    if parts.scheme == "https":
        return _download(uri, name, limit_bytes)
    raise BuildError(f"{name}: cannot fetch {parts.scheme or 'a bare path'!r}; use https:// or file://")


def _read_file(path: Path, name: str, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except FileNotFoundError as error:
        raise BuildError(
            f"{name}: there is no such file",
            hint="weights kept outside Git must be fetched first; small ones are made by `edgewright train`",
        ) from error
    except OSError as error:
        raise BuildError(f"{name}: cannot be read: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise BuildError(f"{name} is longer than {limit_bytes} bytes")
    return data


def _download(uri: str, name: str, limit_bytes: int) -> bytes:
    import requests

    data = bytearray()
    try:
        with requests.get(uri, stream=True, timeout=TIMEOUT_S) as response:
            if any(not step.url.startswith("https://") for step in (*response.history, response)):
                raise BuildError(f"{name} redirects to {response.url}, which is not https")
            response.raise_for_status()
            for chunk in response.iter_content(_CHUNK):
                data += chunk
                if len(data) > limit_bytes:
                    raise BuildError(f"{name} is longer than {limit_bytes} bytes")
    except requests.HTTPError as error:
        raise NetworkError(f"{name}: the server answered {error.response.status_code}") from error
    except requests.RequestException as error:
        raise NetworkError(
            f"{name} cannot be reached: {error}", hint="check the address and the network"
        ) from error
    return bytes(data)
