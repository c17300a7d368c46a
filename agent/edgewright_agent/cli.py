"""The command `edgewright-agent`.

    $ edgewright-agent init --device-id pi-7 --class raspberry-pi-4 --label site=lab \\
          --source https://registry.example/acme --root root.json --key signing.pub --out agent.json
    $ edgewright-agent once --config agent.json
    digit-reader  installed  1.0.0 sha256:ab12cd34ef56 (1.0.0: loads in 9 ms, infers in 0.10 ms, 4.1 MiB)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from edgewright_agent.arguments import parser
from edgewright_agent.children import OF_THE_DAEMON
from edgewright_agent.clock import uptime, utc_now
from edgewright_agent.config import Config, load, parse
from edgewright_agent.errors import AgentError, ConfigError, StorageError
from edgewright_agent.files import Disk
from edgewright_agent.owner import as_owner, become_owner, owner_of
from edgewright_agent.record import MISSING, Ledger
from edgewright_agent.store import Store
from edgewright_agent.work import at_work

if TYPE_CHECKING:
    from edgewright_agent.transport import Source


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        code = _run_of(options)(options)
        sys.stdout.flush()  # here, or what is wrong with it is told by the interpreter at its exit
        return code
    except AgentError as error:
        print(f"edgewright-agent: {error.code}: {error}", file=sys.stderr)
        return error.exit_code
    except ImportError as error:
        # Such as a virtual environment that does not see Debian's part of cffi.
        print(f"edgewright-agent: not-installed: {error}; next: edgewright-agent doctor", file=sys.stderr)
        return StorageError.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; the interpreter must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A disk that fails where nothing of the agent's own names it, or an output that takes no more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"edgewright-agent: io-error: {error}", file=sys.stderr)
        return StorageError.exit_code


def _run_of(options: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    run: Callable[[argparse.Namespace], int] | None = getattr(options, "run", None)
    return run or _COMMANDS[options.command]


def _init(options: argparse.Namespace) -> int:
    document: dict[str, Any] = {
        "version": 1,
        "device": {"id": options.device_id, "class": options.hardware_class, "labels": dict(options.label)},
        "source": {"url": options.source},
        "state": str(Path(options.state).absolute()),
        "trust": {"root": str(options.root.absolute())},
    }
    if options.key:
        document["trust"]["keys"] = [str(key.absolute()) for key in options.key]
    identities = [
        *({"issuer": issuer, "identity": subject} for issuer, subject in options.identity),
        *({"issuer": issuer, "identityPattern": pattern} for issuer, pattern in options.identity_pattern),
    ]
    if identities:
        document["trust"]["identities"] = identities
    for key, value in (
        ("mirrors", options.mirror),
        ("username", options.username),
        ("password", options.password),
        ("credentialHelper", options.credential_helper),
        ("proxy", options.proxy),
        ("caFile", str(options.ca_file.absolute()) if options.ca_file else None),
    ):
        if value:
            document["source"][key] = value
    if options.device_identity:
        folder = options.device_identity.absolute()
        document["identity"] = {"key": str(folder / "device.key"), "certificate": str(folder / "device.crt")}
        if options.device_ca:
            document["identity"]["ca"] = str(options.device_ca.absolute())
    if options.interval_s is not None:
        document["poll"] = {"intervalS": options.interval_s}
    if options.reserve_bytes is not None:
        document["reserveBytes"] = options.reserve_bytes
    if options.decryption_key:
        document["decryption"] = {"keys": [str(key.absolute()) for key in options.decryption_key]}
    config = parse(document, base=Path.cwd(), name="the options")
    with as_owner(config.state):  # what the agent's user may not read is told here, not at its first poll
        _require_usable(config)
    if options.out.exists() and not options.force:
        raise ConfigError("exists", f"{options.out} exists; --force replaces it")
    # What the shell meant relative to here stays so, wherever the file lies.
    first, *others = config.origin.mirrors
    document["source"]["url"] = first.url
    if others:
        document["source"]["mirrors"] = [mirror.url for mirror in others]
    for key, secret in (("username", first.username), ("password", first.password)):
        if secret:
            document["source"][key] = str(secret)
    told = _first_record(config, options)  # before the configuration: a second try begins it again
    if owner_of(config.state):
        os.umask(0o022)  # the agent's user has to read it; there is no secret in it
    Disk().make_dir(options.out.absolute().parent)
    Disk().replace_file(options.out.absolute(), (json.dumps(document, indent=2) + "\n").encode())
    if options.device_identity:
        told = ": edgewright-agent identity create" if told == ": edgewright-agent once" else told
    print(f"wrote {options.out}; next{told} --config {options.out}")
    return 0


def _require_usable(config: Config) -> None:
    """Check what can be known without network: the trust anchors, the credentials and the form of the URL.

    Raises:
        ConfigError: what is wrong.
    """
    from edgewright_agent.trust.sigstore import load_key

    config.fingerprint()
    for path, pem in zip(config.trust.keys, config.trust.key_bytes(), strict=True):
        load_key(pem, str(path))
    if config.decryption.keys:
        from edgewright_agent.decrypt import load_keys

        load_keys(config.decryption.keys)
    _check_sources(config)


def _check_sources(config: Config) -> None:
    """Open every mirror, which asks nobody; what only the agent's unit is given stays unchecked, and that is said."""
    for mirror in config.origin.mirrors:
        held = mirror.held_by_unit()
        if held:
            print(f"not checked here, for only the agent's unit is given it: {', '.join(held)}")
        (mirror.without_login() if held else mirror).open().close()


def _first_record(config: Config, options: argparse.Namespace) -> str:
    """Begin the record of a new device, or allow it to be begun on the device; return the next command."""
    from edgewright_agent.manual import fleet_name, floor_of, leave_mark
    from edgewright_agent.record import Record

    least = dict(options.at_least)
    floor = floor_of(least)
    if options.no_state:
        Disk().make_dir(options.out.absolute().parent)
        leave_mark(options.out.absolute(), least, fleet=options.fleet)
        return ", on the device: edgewright-agent anchor"
    try:
        with at_work(config) as (ledger, _store):
            if not ledger.record.quarantined:
                return ": edgewright-agent once"
            if ledger.record.quarantined != MISSING or ledger.lived or options.out.exists():
                # A device that was here before has lost what it knew. Whether that is harmless, a person says.
                return f", as {ledger.record.quarantined} says: edgewright-agent reanchor"
            ledger.reanchor(Record(fleet=fleet_name(options.fleet)).with_floor(floor, uptime()))
    except StorageError as error:
        hint = "; where the device's state is not at hand, `init --no-state` prepares it for its own `anchor`"
        raise StorageError(error.code, f"{error}{hint}") from error
    return ": edgewright-agent once"


def _once(options: argparse.Namespace) -> int:
    # Imported here: `status` and friends do not need a health check's subprocess or a source.
    from edgewright_agent.metered import Traffic
    from edgewright_agent.poll import failed
    from edgewright_agent.telemetry import note_report
    from edgewright_agent.transport.allowance import Allowance
    from edgewright_agent.transport.secret import NotPassedError
    from edgewright_agent.trusted import DeviceTrust
    from edgewright_agent.update import Update

    config = load(options.config)
    become_owner(config.state)
    with at_work(config) as (ledger, store):
        try:
            config.fingerprint()
            traffic = Traffic()
            allowance, polls = Allowance(), ledger.record.counters.get("polls", 0)
            opened = config.origin.open(polls=polls, traffic=traffic, allowance=allowance)
        except ConfigError as error:
            # What systemd passes to the agent's unit is not in a shell: that says nothing about the agent's own polls.
            by_hand = (
                isinstance(error, NotPassedError) and not {"INVOCATION_ID", OF_THE_DAEMON} & os.environ.keys()
            )
            if not ledger.record.quarantined and not by_hand:
                ledger.commit(replace(ledger.record.counted(polls=1), poll=failed(error, utc_now())))
            raise
        with contextlib.closing(opened) as source:
            _renew_identity(config, ledger, source, again=options.force, as_json=options.json)
            update = Update(config, ledger, store, source, DeviceTrust(config), allowance=allowance)
            report = update.run(force=options.force, at_once=options.now)
            report = replace(report, traffic=traffic.document())
            note_report(config, report, ledger, store)
    print(report.json_lines() if options.json else report.text())
    return report.exit_code


def _renew_identity(config: Config, ledger: Ledger, source: Source, *, again: bool, as_json: bool) -> None:
    """Fetch the next certificate when that is due; whatever comes of it, the poll goes on."""
    from edgewright_agent.identity.validity import renewal_due
    from edgewright_agent.poll import trusted_now

    now = trusted_now(ledger.record, utc_now())
    if config.identity is None or not renewal_due(config.identity, config.state, now, again=again):
        return
    from edgewright_agent.identity.renewal import renew

    done = renew(config, config.identity, source, Disk(), now=now)
    event = {"event": "identity", "code": done.code, "message": done.message}
    print(json.dumps(event, sort_keys=True) if as_json else f"identity  {done.code}: {done.message}")


def _run(options: argparse.Namespace) -> int:
    become_owner(load(options.config).state)
    # The same process, without what this command line needed: it will wait for years. `-m` looks for modules
    # where it stands, which may be a stick that somebody has just plugged in.
    command = [sys.executable, "-m", "edgewright_agent.idle", str(options.config.absolute())]
    os.chdir("/")
    sys.stdout.flush()
    os.execve(sys.executable, command, {**os.environ, "PYTHONSAFEPATH": "1"})


def _status(options: argparse.Namespace) -> int:
    from edgewright_agent.manual import unanchored
    from edgewright_agent.status import gather

    config = load(options.config)
    disk = Disk()
    may_anchor = unanchored(options.config.absolute()).exists()
    status = gather(
        config, Ledger(config.state, disk), Store(config.state, disk), utc_now(), may_anchor=may_anchor
    )
    spool = None
    if config.telemetry.kept:
        from edgewright_agent.spool import fill

        spool = fill(config.state)
    if options.json:
        print(json.dumps({**status.document(), "spool": spool}, indent=2))
    else:
        print(status.text(spool))
    return 0


def _anchor(options: argparse.Namespace) -> int:
    from edgewright_agent.manual import anchor

    with at_work(load(options.config)) as (ledger, _store):
        begun = anchor(ledger, options.config.absolute())
    print("the record has begun; next: edgewright-agent once" if begun else "the record is there")
    return 0


def _reanchor(options: argparse.Namespace) -> int:
    from edgewright_agent.manual import floor_of, reanchor

    floor = floor_of(dict(options.at_least)) if options.at_least else None
    with at_work(load(options.config)) as (ledger, store):
        whole = not ledger.record.quarantined
        for model, told in reanchor(ledger, store, now=utc_now(), floor=floor, fleet=options.fleet).items():
            print(f"{model}  {told}")
    begun = f"this device follows the fleet {options.fleet}" if whole else "a new record has begun"
    print(f"{begun}; next: edgewright-agent once")
    return 0


def _infer(options: argparse.Namespace) -> int:
    from edgewright_agent.infer import in_words, infer

    state = options.state or load(options.config).state
    answer = infer(options.model, state, options.input)
    print(json.dumps(answer, indent=2) if options.json else in_words(answer))
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from edgewright_agent.calibrate import check_writable, measure
    from edgewright_agent.kit import Kit

    check_writable(options.out)
    with contextlib.closing(Kit(options.kit)) as kit:
        document = measure(kit, rounds=options.rounds, progress=_Bar(sys.stderr))
    Disk().replace_file(options.out.absolute(), (json.dumps(document, indent=1) + "\n").encode())
    failed = sum("failure" in entry for entry in document["nets"].values())
    told = f", {failed} could not run here" if failed else ""
    print(f"wrote {options.out}: {len(document['nets'])} nets on {document['processor']}{told}")
    print(f"next, in the fleet's repository: edgewright calibrate {kit.hardware_class} --measured FILE")
    return 0


def _identity_create(options: argparse.Namespace) -> int:
    from edgewright_agent.identity import command

    path = options.key or command.identity_of(load(options.config)).key
    become_owner(path)  # of the folder it lies in: the agent has to read it, and nobody else may
    print(command.create_key(path, options.provider))
    return 0


def _identity_request(options: argparse.Namespace) -> int:
    from edgewright_agent.identity import command

    print(command.write_request(load(options.config), options.out))
    return 0


def _identity_show(options: argparse.Namespace) -> int:
    from edgewright_agent.identity import command

    told = command.describe(load(options.config), utc_now())
    print(command.as_json(told) if options.json else command.in_words(told))
    return 0


def _identity_install(options: argparse.Namespace) -> int:
    from edgewright_agent.identity import command

    print(command.install(load(options.config), options.certificate, utc_now()))
    return 0


def _report(options: argparse.Namespace) -> int:
    from edgewright_agent.identity import command

    envelope = command.report(load(options.config), utc_now())
    if options.out is None:
        print(envelope.decode())
        return 0
    Disk().replace_file(options.out.absolute(), envelope + b"\n")
    print(f"wrote {options.out}; next, in the fleet's repository: edgewright collect {options.out.name}")
    return 0


class _Bar:
    """Tells how far a long command is: one line that moves on a terminal, one line per tenth elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._live, self._tenth = stream, stream.isatty(), -1

    def __call__(self, done: int, total: int, what: str) -> None:
        tenth = done * 10 // total
        if self._live:
            bar = "█" * round(24 * done / total)
            end = "\n" if done == total else ""
            print(f"\r\x1b[K{bar:░<24} {done}/{total} {what}", end=end, file=self._stream, flush=True)
        elif tenth != self._tenth:
            print(f"{done}/{total} {what}", file=self._stream, flush=True)
        self._tenth = tenth


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "init": _init,
    "once": _once,
    "run": _run,
    "status": _status,
    "anchor": _anchor,
    "reanchor": _reanchor,
    "infer": _infer,
    "calibrate": _calibrate,
    "identity create": _identity_create,
    "identity request": _identity_request,
    "identity show": _identity_show,
    "identity install": _identity_install,
    "report": _report,
}
