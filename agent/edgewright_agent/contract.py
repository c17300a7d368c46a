"""Names and shapes that the pipeline writes and the device reads: the only module both sides share.

Everything here is plain data over the standard library, so a device pays nothing for importing it.

>>> dsse_pae("application/vnd.in-toto+json", b"{}")
b'DSSEv1 28 application/vnd.in-toto+json 2 {}'
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

# --- OCI media types (OCI image-spec 1.1; CNCF ModelPack model-spec 0.0.7) -------------------------------------
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_EMPTY_BYTES = b"{}"
MODEL_ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG = "application/vnd.cncf.model.config.v1+json"
LAYER_WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
LAYER_WEIGHT_CONFIG = "application/vnd.cncf.model.weight.config.v1.raw"
LAYER_DOC = "application/vnd.cncf.model.doc.v1.raw"
LAYER_DATASET = "application/vnd.cncf.model.dataset.v1.raw"
RAW = ".raw"  # a layer as its file is
TAR_GZIP = ".tar+gzip"  # the same layer as an archive of that one file, compressed
SIGSTORE_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
TUF_METADATA = "application/vnd.dev.edgewright.tuf.v1+json"

# --- annotations ----------------------------------------------------------------------------------------------
ANNOTATION_CLASS = "dev.edgewright.hardware-class"
ANNOTATION_MODEL = "dev.edgewright.model"
ANNOTATION_VERSION = "dev.edgewright.model-version"
ANNOTATION_FILEPATH = "org.cncf.model.filepath"
ANNOTATION_TITLE = "org.opencontainers.image.title"  # without it `oras pull` skips the layer
ANNOTATION_FILE_DIGEST = (
    "dev.edgewright.file-digest"  # of the file in a compressed or encrypted layer; and its size in bytes
)
ANNOTATION_FILE_SIZE = "dev.edgewright.file-size"
ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
ANNOTATION_BUNDLE_CONTENT = "dev.sigstore.bundle.content"
ANNOTATION_BUNDLE_PREDICATE = "dev.sigstore.bundle.predicateType"

# --- statements (in-toto Statement v1 inside DSSE inside a Sigstore bundle v0.3) --------------------------------
INTOTO_PAYLOAD = "application/vnd.in-toto+json"
INTOTO_STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE_SIGN = "https://sigstore.dev/cosign/sign/v1"
PREDICATE_GATE_REPORT = "https://edgewright.dev/gate-report/v1"
PREDICATE_PROVENANCE = "https://slsa.dev/provenance/v1"
PREDICATE_BOM = "https://cyclonedx.org/bom"
ATTESTATIONS = {  # what policies call them
    "signature": PREDICATE_SIGN,
    "gate-report": PREDICATE_GATE_REPORT,
    "provenance": PREDICATE_PROVENANCE,
    "bom": PREDICATE_BOM,
}

# Of provenance: what its parameters mean (docs/provenance.md), and who built where no platform vouches for it.
BUILD_TYPE = "https://edgewright.dev/build/lane/v1"
BUILDER_LOCAL = "https://edgewright.dev/builder/local"
# Of a bill of materials: properties that bind it to a lane.
BOM_MODEL = "edgewright:model"
BOM_CLASS = "edgewright:hardware-class"

# --- files of a model artifact (layer titles) -------------------------------------------------------------------
FILE_MODEL = "model.onnx"
FILE_DATA = "model.onnx.data"  # optional: the model's weights, where its layout keeps them apart
FILE_RUNTIME = "runtime.json"  # runtime manifest: providers, threads, graph optimization, signature
FILE_GOLDEN = "golden.json"  # golden inputs and the outputs this artifact gave when it was evaluated
FILE_LABELS = "labels.json"  # optional: class names of the first output
FILE_CPU_MODEL = (
    "model.cpu.onnx"  # optional: what runs when the accelerator does not; one file, weights inside
)
FILE_CPU_RUNTIME = "runtime.cpu.json"  # its runtime manifest; both are there or neither
FILE_DRIFT = "drift.json"  # input and confidence reference of the validation data

# --- deltas: how to make an artifact's files from those of one that a device may have ----------------------------
DELTA_ARTIFACT = "application/vnd.dev.edgewright.delta.manifest.v1+json"
DELTA_CONFIG = "application/vnd.dev.edgewright.delta.config.v1+json"
DELTA_LAYER = "application/vnd.dev.edgewright.delta.v1"  # one changed file, see `delta`
ANNOTATION_DELTA_BASE = "dev.edgewright.delta-base"  # digest of the artifact it starts from
ANNOTATION_DELTA_TARGET = "dev.edgewright.delta-target"  # digest of the artifact it ends in
DELTAS_FIELD = "deltas"  # of a class role's target: [{base, digest, size, bytes}], which makes them legal
MAX_DELTA_BASES = 3
MAX_DELTA_SHARE = 0.6  # of what the changed layers take in full; a larger one is not published

# The file in such a layer (docs/adr/0015): a header, then blocks until the target is whole, then nothing. All numbers
# are little-endian. A block is its head, its operations (compressed with zlib), its data (compressed with its codec).
DELTA_MAGIC = b"EWDELTA1"
DELTA_HEADER = "<8s32sQ32sQ"  # magic, sha256 and size of the base file, sha256 and size of the target file
DELTA_BLOCK = (
    "<BHIQQ"  # codec, number of operations, their compressed bytes, bytes of data, its compressed bytes
)
DELTA_OPERATION = "<BQQ"  # kind + 16 * log2(width), offset in the base file, length
DELTA_COPY, DELTA_REPLACE, DELTA_ADD = 0, 1, 2  # from base; from data; base + data, byte by byte modulo 256
DELTA_STORED, DELTA_ZLIB, DELTA_BZ2, DELTA_XZ = 0, 1, 2, 3
DELTA_WIDTHS = (1, 2, 4, 8)  # bytes of an element: the data of an operation lies byte plane by byte plane
DELTA_WINDOW_BYTES = (
    64 * 1024
)  # within windows of so many bytes, counted from the start of the operation's data
DELTA_DICTIONARY_BYTES = 4 * 1024 * 1024  # of an xz stream: what unpacking one costs a device in memory
MAX_DELTA_BLOCK_OPERATIONS = 4096
MAX_DELTA_OPERATIONS = 65536

# --- calibration: a kit of nets for a device, and what the device measured --------------------------------------
KIT_KIND = "edgewright-calibration-kit"
KIT_DOCUMENT = "kit.json"  # the kit's digest is that of these bytes; they name the digest of every net
KIT_FOLDER = "nets"  # <name>.onnx
MEASURED_KIND = "edgewright-calibration-measured"

# --- TUF target paths and roles (TUF 1.0.33) --------------------------------------------------------------------
TUF_REPOSITORY = "tuf"  # repository, under the registry's prefix, that holds the metadata files
ROLE_ROLLOUT = "rollout"
ROLE_CLASS_PREFIX = "class-"  # one delegation per hardware class: `class-raspberry-pi-4`
ASSIGNMENT_TARGET = "rollout/assignment.json"
POLICY_TARGET = (
    "trust/policy.json"  # who may sign what, which attestations a class demands; signed by `targets`
)
TRUSTED_ROOT_TARGET = "trust/trusted-root.json"  # Sigstore trusted root for keyless; signed by `targets`
ISSUED_FIELD = (
    "x-edgewright-issued"  # of timestamp metadata: when it was signed, RFC 3339; devices' clock floor
)
KEY_NAME_FIELD = "x-edgewright-name"  # of a key in metadata: what people call it; carries no authority
MIN_AGENT = "0.1.0"  # the lowest version of the agent that understands the artifacts of this version

# --- encrypted layers (containers/ocicrypt, OCI image encryption) -----------------------------------------------
ENCRYPTED = "+encrypted"  # suffix of the media type
ENCRYPTION_CIPHER = "AES_256_CTR_HMAC_SHA256"
ANNOTATION_ENC_JWE = "org.opencontainers.image.enc.keys.jwe"
ANNOTATION_ENC_PUBOPTS = "org.opencontainers.image.enc.pubopts"

# --- what a device signs ----------------------------------------------------------------------------------------
DEVICE_REPORT_PAYLOAD = (
    "application/vnd.edgewright.device-report.v1+json"  # DSSE payload type: nothing else has it
)
TELEMETRY_PAYLOAD = "application/vnd.edgewright.telemetry-batch.v1+json"  # DSSE payload type, as well its own
TELEMETRY_SIGNATURE = "Edgewright-Signature"  # HTTP header: base64 of the DSSE envelope over a batch
TELEMETRY_BATCH = "Edgewright-Batch"  # HTTP header: the batch's id
DEVICE_CERTIFICATES = "devices"  # repository, under the registry's prefix, that holds devices' certificates
DEVICE_CERTIFICATE = "application/vnd.dev.edgewright.device-certificate.v1"  # artifact type; tag = device id
DEVICE_REVOCATIONS = "application/vnd.dev.edgewright.device-crl.v1"
REVOCATIONS_TAG = "ca.crl"  # of the same repository; no device can be called so
PEM_CHAIN = "application/pem-certificate-chain"  # RFC 8555 9.1
PEM_FILE = "application/x-pem-file"  # a revocation list as TLS servers read it
DEVICE_URI = "urn:edgewright:device:"  # subject alternative name of a device's request and certificate

# --- on the device: sockets in the state directory, and what sessions tell the daemon -----------------------------
HEALTH_SOCKET = "agent.sock"  # stream; HTTP GET /v1/health, /v1/status, /v1/models
LIVE_SOCKET = "live.sock"  # datagrams from applications' sessions: one JSON document each
MAX_LIVE_BYTES = 16 * 1024
MAX_EXPERIMENT_BYTES = 4 * 1024
LATENCY_BUCKETS_PER_DOUBLING = 8  # of the latency sketch: bucket i holds 2^(i/8) to 2^((i+1)/8) microseconds

# --- windows of an update policy: `22:00-05:00`, `sat,sun 00:00-24:00`, `mon-fri 08:00-17:00` ---------------------
WINDOW_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = rf"(?:{'|'.join(WINDOW_DAYS)})"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
WINDOW_PATTERN = rf"(?:{_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?){{0,6}} )?{_TIME}-(?:{_TIME}|24:00)"

# --- bounds on everything that comes from the network (bytes, counts) ---------------------------------------------
MAX_MANIFEST_BYTES = 256 * 1024
MAX_TUF_BYTES = 512 * 1024
MAX_BUNDLE_BYTES = 256 * 1024
MAX_ASSIGNMENT_BYTES = 512 * 1024
MAX_POLICY_BYTES = 64 * 1024
MAX_TRUSTED_ROOT_BYTES = 256 * 1024
MAX_CERTIFICATE_BYTES = 64 * 1024
MAX_REPORT_BYTES = 256 * 1024
MAX_TELEMETRY_BYTES = 1024 * 1024  # of a batch, not compressed
MAX_REFERRERS = 32  # fetched, of those listed
MAX_LISTED_REFERRERS = 256
MAX_LAYERS = 64
MAX_RECIPIENTS = 64  # of an encrypted layer: a manifest with two such layers stays within its own limit
MAX_KIT_DOCUMENT_BYTES = 1024 * 1024
MAX_KIT_NETS = 2000
MAX_KIT_NET_BYTES = 64 * 1024 * 1024
MAX_MEASURED_BYTES = 4 * 1024 * 1024

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def digest_of(data: bytes) -> str:
    """Return the OCI digest of `data` (`sha256:<64 hex>`)."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def is_digest(text: object) -> bool:
    """Whether `text` is a well-formed sha256 digest (OCI image-spec, Digests)."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def is_name(text: object) -> bool:
    """Whether `text` is a legal model, class or group name (lower case, digits, single dashes, ≤ 63)."""
    return isinstance(text, str) and len(text) <= 63 and _NAME.fullmatch(text) is not None


def canonical_json(document: Any) -> bytes:
    """Serialize to the one byte string that equal documents share: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def artifact_target(model: str, hardware_class: str, digest: str) -> str:
    """Return the TUF target path of one lane's artifact; the target's bytes are its OCI manifest."""
    return f"artifacts/{model}/{hardware_class}/{digest.removeprefix('sha256:')}"


def class_role(hardware_class: str) -> str:
    """Return the delegated TUF role that lists the artifacts of one hardware class."""
    return ROLE_CLASS_PREFIX + hardware_class


def tuf_tag(path: str) -> str:
    """Return the registry tag that carries a TUF metadata or target file (`rollout/a.json` → `rollout.a.json`)."""
    return path.replace("/", ".")


def fallback_tag(digest: str) -> str:
    """Return the tag that lists a manifest's referrers (OCI distribution-spec 1.1, Referrers Tag Schema)."""
    return digest.replace(":", "-")


def file_of_layer(layer: dict[str, Any]) -> tuple[str, str, int]:
    """Return name, digest and size in bytes of the file that a layer of an artifact becomes on a device.

    >>> file_of_layer({"digest": "sha256:ab", "size": 3, "annotations": {ANNOTATION_TITLE: "runtime.json"}})
    ('runtime.json', 'sha256:ab', 3)
    """
    notes = layer.get("annotations", {})
    # By the media type, as a device decides it: the annotations of a layer that is not unpacked say nothing.
    if not str(layer.get("mediaType", "")).endswith((TAR_GZIP, ENCRYPTED)):
        return notes.get(ANNOTATION_TITLE, ""), layer["digest"], int(layer["size"])
    return notes[ANNOTATION_FILEPATH], notes[ANNOTATION_FILE_DIGEST], int(notes[ANNOTATION_FILE_SIZE])


def dsse_pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes a DSSE signature covers (DSSE 1.0, pre-authentication encoding)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_hint(public_key_der: bytes) -> str:
    """Return the public key hint of a Sigstore bundle: base64(sha256(SubjectPublicKeyInfo DER))."""
    return base64.b64encode(hashlib.sha256(public_key_der).digest()).decode()


def selector_matches(match_labels: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether a device with `labels` belongs to a group; every pair must match, an empty selector takes all."""
    return all(labels.get(key) == value for key, value in match_labels.items())
