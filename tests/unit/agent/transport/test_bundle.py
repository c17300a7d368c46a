"""A bundle file from anybody's USB stick: read in place, and refused when it has what no bundle of ours has."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright_agent.errors import TransportError
from edgewright_agent.transport import open_source
from edgewright_agent.transport.bundle import open_bundle
from unit.agent.transport.conftest import Release
from unit.agent.transport.test_sources import refuses


def header(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def bundle(path: Path, *members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=kind) as tar:
        for info, data in members:
            if info.isreg() and not info.size:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data) if data else None)
    return path


def reading(path: Path, **more: int) -> None:
    open_bundle(str(path), **more).manifest("model", "1")


def refused(path: Path, code: str = "bad-response") -> str:
    return refuses(code, lambda: reading(path))


GOOD = (header("model/index.json"), b'{"manifests":[]}')


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (header("model/x", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "link"),
        (header("model/x", type=tarfile.LNKTYPE, linkname="model/index.json"), "link"),
        (header("model/x", type=tarfile.CHRTYPE), "device"),
        (header("model/x", type=tarfile.BLKTYPE), "device"),
        (header("model/x", type=tarfile.FIFOTYPE), "device"),
        (header("model/x", type=tarfile.CONTTYPE), "sparse"),
        (header("/model/x"), "unsafe name"),
        (header("../x"), "unsafe name"),
        (header("model/../../x"), "unsafe name"),
        (header("model//x"), "unsafe name"),
        (header("model/" + "x" * 600), "unsafe name"),
        (header("model/index.json"), "twice"),
        (header("./model/index.json"), "twice"),
    ],
)
def test_what_an_extractor_would_have_to_fear_is_refused(
    tmp_path: Path, info: tarfile.TarInfo, why: str
) -> None:
    assert why in refused(bundle(tmp_path / "b.tar", GOOD, (info, b"")))


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    sparse = header(
        "model/x",
        pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "model/y"},
    )
    refused(bundle(tmp_path / "b.tar", (sparse, b"1\n0\n5\n".ljust(1024, b"\0")), kind=tarfile.PAX_FORMAT))


def test_the_forms_that_tar_programs_write_are_read(tmp_path: Path, release: Release) -> None:
    for number, kind in enumerate((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w", format=kind) as tar:
            tar.add(release.shelf.root, ".")  # "./digit-reader/…", with folders and fractional times
        manifest = open_source(f"bundle:{path}").manifest("digit-reader", "1.0.0")
        assert manifest is not None
        assert manifest.digest == release.digest


def test_a_long_repository_name_is_read(tmp_path: Path) -> None:
    name = "/".join(["a-rather-long-name"] * 9)
    path = bundle(tmp_path / "b.tar", (header(f"{name}/index.json"), b'{"manifests":[]}'))
    refuses("not-found", lambda: open_bundle(str(path)).manifest(name, "1"))


def test_a_compressed_bundle_says_so(tmp_path: Path) -> None:
    plain = bundle(tmp_path / "b.tar", GOOD).read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(plain))
    assert "compressed with gzip" in refused(tmp_path / "b.tar.gz")


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    path = bundle(tmp_path / "b.tar", *((header(f"model/{number}"), b"") for number in range(20)))
    refuses("too-large", lambda: reading(path, max_members=19))
    refuses("not-found", lambda: reading(path, max_members=20))


def test_a_bundle_cut_off_within_a_member_is_truncated(tmp_path: Path) -> None:
    path = bundle(tmp_path / "b.tar", GOOD, (header("model/x"), bytes(100_000)))
    os.truncate(path, 50_000)
    refused(path, "truncated")


@pytest.mark.parametrize("content", [b"", b"\0" * 10_240, b"text" * 1000, b"\0" * 100])
def test_what_is_no_tar_is_refused_or_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(TransportError) as caught:
        reading(tmp_path / "b.tar")
    assert caught.value.code in ("bad-response", "not-found")


def test_a_bundle_that_is_gone_is_not_found(tmp_path: Path) -> None:
    refused(tmp_path / "gone.tar", "not-found")


def test_a_bundle_that_is_no_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe")


def test_a_header_as_long_as_the_memory_is_not_read(tmp_path: Path) -> None:
    huge = header("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=2**40)
    (tmp_path / "b.tar").write_bytes(huge.tobuf() + bytes(4096))
    refused(tmp_path / "b.tar")


def test_headers_within_headers_are_given_up(tmp_path: Path) -> None:
    nested = header("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=1).tobuf() + b"x".ljust(512, b"\0")
    (tmp_path / "b.tar").write_bytes(nested * 5000)
    refused(tmp_path / "b.tar")


def test_a_header_that_points_backwards_is_refused(tmp_path: Path) -> None:
    info = header("model/x")
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = tarfile.itn(-1024, 12, tarfile.GNU_FORMAT)  # the size field, as GNU tar writes negatives
    raw[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(raw))[0]
    (tmp_path / "b.tar").write_bytes(bytes(raw) + bytes(2048))
    refused(tmp_path / "b.tar")


def test_members_are_read_within_their_own_bounds(tmp_path: Path) -> None:
    path = bundle(tmp_path / "b.tar", (header("model/index.json"), b'{"manifests":['), (header("x"), b"]}"))
    refused(path)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_bytes_end_in_a_documented_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "fuzz.tar"
    kind = data.draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    types = [
        tarfile.REGTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.XGLTYPE,
    ]
    members = [
        (
            header(name, type=data.draw(st.sampled_from(types)), pax_headers=pax),
            data.draw(st.binary(max_size=600)),
        )
        for name, pax in data.draw(
            st.lists(
                st.tuples(
                    st.sampled_from(["model/index.json", "model/a", "x/" * 60 + "x"]),
                    st.dictionaries(
                        st.sampled_from(
                            ["size", "path", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.major"]
                        ),
                        st.sampled_from(["-1", "1", "99999999999999999999", "a", "0,1,2"]),
                    ),
                ),
                max_size=3,
            )
        )
    ]
    body = bytearray(bundle(path, GOOD, *members, kind=kind).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, min(len(body), 4096) - 1))
        body[place : place + 1] = data.draw(st.binary(min_size=1, max_size=12))
        if data.draw(st.booleans()):  # keep the checksum right, so that the change is looked at
            block = place - place % 512
            if len(body) >= block + 512:
                body[block + 148 : block + 156] = (
                    b"%06o\0 " % tarfile.calc_chksums(bytes(body[block : block + 512]))[0]
                )
    path.write_bytes(body)
    with contextlib.suppress(TransportError):
        reading(path)
