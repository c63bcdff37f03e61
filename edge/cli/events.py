"""tail, events and dead-letters: what the node publishes, has stored, and could not deliver."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from edge.cli import table
from edge.cli.exit_codes import EXIT_FAILED, exits_with_reason
from edge.cli.options import Seconds, config_option, json_option, since_option, since_wall_ns
from edge.cli.progress import echo, note
from edge.cli.table import Column
from edge.errors import PayloadError
from edge.event import NODE_CAMERA
from edge.host.text import one_line

if TYPE_CHECKING:
    from edge.delivery.sequence_audit import SequenceAudit

MAX_SHOWN: Final = 2000
"""Characters of one event on a terminal."""


@click.command(short_help="Print events as they arrive.")
@config_option
@json_option
@click.option("-n", "--count", type=click.IntRange(1), help="End after this many events.")
@click.option("--for", "for_s", type=Seconds(), help="End after this time, for example 30s.")
@click.option("--camera", help="Only this camera.")
@click.option("--verify", is_flag=True, help="Check that no event is missing: holes in seq, order, duplicates.")
@exits_with_reason
def tail(
    config_path: Path, as_json: bool, count: int | None, for_s: float | None, camera: str | None, verify: bool
) -> None:
    """Subscribe to this node's broker and print events as they arrive.

    With --verify tail prints each event once, writes remarks and a result to stderr, and exits with 1 when an event is
    missing, out of order, or numbered twice. It also exits with 1 when it never reached the broker.

    \b
    Examples:
      defectd tail --camera top
      defectd tail --verify --for 10m
    """
    import threading

    from edge import config
    from edge.delivery.mqtt.listener import listen
    from edge.delivery.mqtt.topics import Topics
    from edge.delivery.sequence_audit import SequenceAudit

    if verify and camera is not None:
        raise click.UsageError("--verify needs all cameras: seq counts over all of them")
    settings = config.load(config_path)
    if camera not in (None, NODE_CAMERA):
        config.find_camera(settings, camera, str(config_path))
    topic = Topics(settings.mqtt.topic_prefix, settings.node).event(camera or "+")
    audit = SequenceAudit() if verify else None
    over = threading.Event()
    timer = threading.Timer(for_s or 0.0, over.set)
    timer.daemon = True
    if for_s is not None:
        timer.start()
    note(f"listening to {topic}; Ctrl-C ends")
    seen = 0
    connected = threading.Event()
    try:
        for message in listen(settings.mqtt, [topic], on_state=note, on_connected=connected.set, stopped=over):
            if audit is not None and not _is_first(audit, message.payload):
                continue
            echo(_json_line(message.payload) if as_json else _event_line(message.payload))
            seen += 1
            if count is not None and seen >= count:
                break
    except KeyboardInterrupt:
        pass
    finally:
        timer.cancel()
    if not connected.is_set():
        note("the broker was never reached: that no event came proves nothing")
        sys.exit(EXIT_FAILED)
    if audit is not None:
        sys.exit(_print_results(audit))


def _is_first(audit: SequenceAudit, payload: bytes) -> bool:
    """Account for a message and print what is unusual about it.  Returns whether it is an event not seen before."""
    try:
        arrival = audit.add(payload)
    except PayloadError as error:
        note(str(error))
        return False
    if arrival.remark:
        note(arrival.remark)
    return arrival.is_first


def _print_results(audit: SequenceAudit) -> int:
    """Print one result for each node.  Returns the exit code."""
    results = audit.results()
    for result in results:
        note(str(result))
    if not results:
        note("no event arrived: nothing to verify")
    return 0 if all(result.complete for result in results) else EXIT_FAILED


def _json_line(payload: bytes) -> str:
    """The message as one line of JSON; what is not JSON becomes a text in it."""
    text = payload.decode("utf-8", "replace")
    try:
        value = json.loads(text)
        return text if one_line(text, len(text)) == text else json.dumps(value)
    except (ValueError, RecursionError):
        return json.dumps({"not_json": text[:MAX_SHOWN]})


def _event_line(payload: bytes) -> str:
    """For people, in local time."""
    from edge.host.clock import local_time, wall_ns_of

    try:
        event = json.loads(payload)
        defect, detail = event.get("defect"), event.get("detail")
        head = f"{local_time(wall_ns_of(event['time']))} #{event['seq']:<6} {event['camera']:10} {event['type']:15}"
        if defect:
            x, y, w, h = defect.get("extent_px") or defect["box_px"]
            head += f" {defect['class']:16} {defect['confidence']:.2f}  at {x},{y} {w}x{h} px"
            if defect.get("position_m") is not None:
                head += f", {defect['position_m']:.3f} m"
            if defect.get("coil") is not None:
                head += f" on {defect['coil']}"
            if event["type"] == "defect.closed":
                head += "" if defect.get("length_mm") is None else f", {defect['length_mm']:.1f} mm long"
                head += f", {defect['frames']} frames"
        if detail:
            head += " " + json.dumps(detail)
        return one_line(head + ("  (replayed)" if event.get("replayed") else ""), MAX_SHOWN)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError, RecursionError):
        return f"not an event: {one_line(payload, 200)}"


@click.command(short_help="Print the events stored on this node.")
@config_option
@json_option
@since_option
@click.option("-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="At most this many.")
@click.option("--refused", is_flag=True, help="Only events that the broker refused.")
@exits_with_reason
def events(config_path: Path, as_json: bool, since: str | None, limit: int, refused: bool) -> None:
    """Print the events stored on this node, delivered or not, oldest first.

    \b
    Examples:
      defectd events --since 10m
      defectd events --refused --json
    """
    from edge import config
    from edge.delivery.outbox.reader import read_events
    from edge.host.clock import local_date_time

    settings = config.load(config_path)
    store = settings.state.outbox
    stored = read_events(store, since_wall_ns=since_wall_ns(since), limit=limit, only_refused=refused)
    if as_json:
        for row in stored:
            click.echo(json.dumps({"delivery": row.state, "reason": row.reason, **json.loads(row.payload)}))
    else:
        from edge.cli import event_table

        event_table.show(stored)
    if not stored and not as_json:
        from_ns = since_wall_ns(since)
        note("no events stored" if since is None else f"no events stored since {local_date_time(from_ns)}")


@click.group("dead-letters", short_help="Events that the broker refused.")
def dead_letters() -> None:
    """List, retry or delete the events that the broker refused for good.

    Works on the outbox of this node, whether the daemon runs or not.

    \b
    Examples:
      defectd dead-letters list
      defectd dead-letters retry --all
    """


@dead_letters.command("list", short_help="List the refused events, oldest first, with reasons.")
@config_option
@json_option
@click.option("-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="At most this many.")
@exits_with_reason
def list_dead_letters(config_path: Path, as_json: bool, limit: int) -> None:
    """List the refused events, oldest first: seq, topic, code and the broker's reason.

    \b
    Examples:
      defectd dead-letters list -n 10
    """
    from edge import config
    from edge.delivery.outbox.reader import read_dead_letters
    from edge.host.clock import local_date_time, stamp

    found = read_dead_letters(config.load(config_path).state.outbox, limit)
    if as_json:
        for letter in found:
            at, code = stamp(letter.refused_ns), f"0x{letter.code:02x}"
            head = {"seq": letter.seq, "event_id": letter.event_id, "topic": letter.topic, "refused": at, "code": code}
            click.echo(json.dumps({**head, "reason": letter.reason, "event": json.loads(letter.payload)}))
    else:
        columns = (
            Column("seq", right=True),
            Column("refused"),
            Column("topic", folds=True),
            Column("code"),
            Column("reason", folds=True),
        )
        rows = (
            (str(one.seq), local_date_time(one.refused_ns), one.topic, (f"0x{one.code:02x}", "yellow"), one.reason)
            for one in found
        )
        table.show(columns, rows)
    if not found and not as_json:
        note("no dead letters")


@dead_letters.command(short_help="Queue refused events for delivery again.")
@config_option
@click.argument("seqs", metavar="[SEQ]...", nargs=-1, type=click.IntRange(1))
@click.option("--all", "everything", is_flag=True, help="All of them.")
@exits_with_reason
def retry(config_path: Path, seqs: tuple[int, ...], everything: bool) -> None:
    """Queue refused events for delivery again, under their old seq. A running daemon sends them within a second.

    \b
    Examples:
      defectd dead-letters retry 17 18
      defectd dead-letters retry --all
    """
    _settle(config_path, "retry", seqs, everything=everything)


@dead_letters.command()
@config_option
@click.argument("seqs", metavar="[SEQ]...", nargs=-1, type=click.IntRange(1))
@click.option("--all", "everything", is_flag=True, help="All of them.")
@exits_with_reason
def discard(config_path: Path, seqs: tuple[int, ...], everything: bool) -> None:
    """Delete refused events for good.

    \b
    Examples:
      defectd dead-letters discard 17
    """
    _settle(config_path, "discard", seqs, everything=everything)


def _settle(config_path: Path, action: Literal["retry", "discard"], seqs: tuple[int, ...], *, everything: bool) -> None:
    from edge import config
    from edge.delivery.outbox.dead_letters import settle_dead_letters

    if bool(seqs) == everything:
        raise click.UsageError("give the seq of one or more dead letters, or --all")
    store = config.load(config_path).state.outbox
    done = settle_dead_letters(store, action, None if everything else seqs)
    click.echo(f"{done} {'wait for delivery again' if action == 'retry' else 'deleted'}")
    if seqs and done < len(set(seqs)):
        note(f"{len(set(seqs)) - done} of them are not dead letters: see `defectd dead-letters list`")
        sys.exit(EXIT_FAILED)
