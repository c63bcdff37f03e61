"""The command line. The only room that prints; libraries are imported where a command needs them."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar

import click

from edge import __version__
from edge.errors import BundleError, ConfigError, DefectdError, PayloadError

if TYPE_CHECKING:
    from edge.delivery.proof import Proof

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 78
"""sysexits.h EX_CONFIG: systemd does not restart on it."""

P = ParamSpec("P")
R = TypeVar("R")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="defectd")
def main() -> None:
    r"""Inspect the surface of moving steel: cameras in, defect events out over MQTT.

    \b
    Try it without a camera:   defectd run -c config.yaml
    and in a second terminal:  defectd tail
    """
    logging.getLogger("edge").addHandler(logging.NullHandler())  # only `run` sets up a log; the others tell themselves


def config_option(command: Callable[P, R]) -> Callable[P, R]:
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=Path("config.yaml"),
        show_default=True,
        help="The configuration file.",
    )(command)


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for scripts.")(command)


def refusals_told(command: Callable[P, R]) -> Callable[P, R]:
    """Errors raised on purpose become one clear message and the promised exit code, never a traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ConfigError, BundleError) as error:
            click.echo(f"defectd: {error}", err=True)
            sys.exit(EXIT_CONFIG)
        except DefectdError as error:
            click.echo(f"defectd: {error}", err=True)
            sys.exit(EXIT_FAILED)
        except BrokenPipeError:
            sys.stderr.close()  # the reader (head, less) has gone; Python would complain at exit
            sys.exit(0)

    return wrapped


def one_thread_each() -> None:
    """Pools of the numeric libraries would only fight with the network for the cores; read when they are loaded."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(name, "1")


class Seconds(click.ParamType[float]):
    """30, 30s, 5m, 2h, 1d -> seconds."""

    name = "duration"
    units: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        unit = self.units.get(text[-1:], None)
        try:
            seconds = float(text if unit is None else text[:-1]) * (unit or 1)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < 1e9:
            self.fail(f"{value!r} is not a duration; write for example 30s, 5m or 2h", param, ctx)
        return seconds


@main.command()
@config_option
@click.option("--for", "for_s", type=Seconds(), help="End by itself after this time, for example 30s.")
@refusals_told
def run(config_path: Path, for_s: float | None) -> None:
    """Run the daemon. SIGTERM or Ctrl-C ends it with everything handed over."""
    one_thread_each()
    from edge import config, log
    from edge.clock import SystemClock
    from edge.daemon import Daemon, prepare

    settings = config.load(config_path)
    log.start(settings.log.level, settings.log.format)
    clock = SystemClock()
    sys.exit(Daemon(prepare(settings, clock), clock).run(for_s))


@main.command()
@config_option
@json_option
@click.option("--schema", is_flag=True, help="Print a JSON Schema of the file for editors, and end.")
@click.option("--probe", is_flag=True, help="Also open every camera for a moment and take a picture.")
@refusals_told
def check(config_path: Path, as_json: bool, schema: bool, probe: bool) -> None:
    """Check a configuration and its model without starting anything."""
    from edge import config

    if schema:
        click.echo(json.dumps(config.json_schema(), indent=2))
        return
    try:
        findings = _check(config_path, probe=probe)
    except (ConfigError, BundleError) as error:
        if not as_json:
            raise
        problems = [asdict(p) for p in error.problems] if isinstance(error, ConfigError) else []
        click.echo(json.dumps({"ok": False, "error": str(error), "problems": problems}))
        sys.exit(EXIT_CONFIG)
    failed = [camera for camera in findings["cameras"] if camera.get("error")]
    if as_json:
        click.echo(json.dumps({"ok": not failed, **findings}))
    else:
        click.echo(f"{config_path}: good. Model {findings['model']}, broker {findings['broker']}")
        for camera in findings["cameras"]:
            given = camera.get("error") or camera.get("given")
            click.echo(f"  {camera['name']}: {camera['source']}" + (f": {given}" if given else ""))
    sys.exit(EXIT_FAILED if failed else 0)


def _check(config_path: Path, *, probe: bool) -> dict[str, Any]:
    from edge import config
    from edge.clock import SystemClock
    from edge.daemon import prepare, probed

    settings = config.load(config_path)
    clock = SystemClock()
    card = prepare(settings, clock).classifier.card
    found = probed(settings.active_cameras, clock) if probe else {}
    cameras = [
        {"name": camera.name, "source": config.redact(camera.source.get_secret_value()), **found.get(camera.name, {})}
        for camera in settings.active_cameras
    ]
    return {"model": f"{card.name} {card.version}", "broker": settings.mqtt.broker, "cameras": cameras}


@contextmanager
def _progress(total: int | None, label: str, *, hidden: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr when a person is looking."""
    if hidden or not sys.stderr.isatty() or not total:
        yield lambda: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)


@main.command()
@click.argument("paths", nargs=-1, required=True)
@json_option
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path), help="Take a camera's settings.")
@click.option("--camera", help="Which camera of the configuration; the first when not given.")
@click.option("--bundle", "bundle_path", default="builtin", show_default=True, help="The model bundle.")
@click.option("--tile-px", type=click.IntRange(16, 8192), help="Side of a tile in the picture [default: 200].")
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path), help="Folder for drawn copies.")
@refusals_told
def inspect(
    paths: tuple[str, ...],
    as_json: bool,
    config_path: Path | None,
    camera: str | None,
    bundle_path: str,
    tile_px: int | None,
    pictures: Path | None,
) -> None:
    r"""Verdicts for images, folders, patterns or videos; no broker, no daemon.

    \b
    defectd inspect photo.png
    defectd inspect --json frames/ clip.mp4 | jq .state
    """
    from edge.offline import Offline, count_files, settings_of

    offline = Offline(settings_of(config_path, camera, bundle_path, tile_px))
    failed, last = False, ""
    with _progress(count_files(paths), "inspecting", hidden=sys.stdout.isatty()) as advance:
        for line in offline.verdicts(paths, pictures):
            failed = failed or "error" in line
            click.echo(json.dumps(line) if as_json else _sentence(line), err="error" in line and not as_json)
            if line["source"] != last:
                last = line["source"]
                advance()
    sys.exit(EXIT_FAILED if failed else 0)


def _sentence(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"{line['source']}: {line['error']}"
    what = ", ".join(f"{r['class']} {r['confidence']:.2f} at {r['box_px']}" for r in line["regions"])
    why = f" ({line['reason']})" if line.get("reason") else ""
    return f"{line['source']} [{line['frame']}]: {line['state']}{why}{': ' + what if what else ''}"


@main.command()
@config_option
@json_option
@click.option("-n", "--count", type=click.IntRange(1), help="End after this many events.")
@click.option("--for", "for_s", type=Seconds(), help="End by itself after this time, for example 30s.")
@click.option("--camera", help="Only this camera.")
@click.option("--verify", is_flag=True, help="Prove that nothing is missing: holes in seq, order, repetitions.")
@refusals_told
def tail(
    config_path: Path, as_json: bool, count: int | None, for_s: float | None, camera: str | None, verify: bool
) -> None:
    """Subscribe to this node's broker and print events as they come.

    With --verify each event is printed once, remarks and a result go to stderr, and the exit code is 1 when anything is
    missing, out of order, or numbered twice.
    """
    import threading

    from edge import config
    from edge.delivery.mqtt import listen
    from edge.delivery.proof import Proof
    from edge.delivery.topics import Topics

    if verify and camera is not None:
        raise click.UsageError("--verify needs all cameras: seq counts over all of them")
    settings = config.load(config_path)
    topic = Topics(settings.mqtt.topic_prefix, settings.node).event(camera or "+")
    proof = Proof() if verify else None
    over = threading.Event()
    timer = threading.Timer(for_s or 0.0, over.set)
    timer.daemon = True
    if for_s is not None:
        timer.start()
    _tell(f"listening to {topic}; Ctrl-C ends")
    seen = 0
    try:
        for message in listen(settings.mqtt, [topic], on_state=_tell, stopped=over):
            if proof is not None and not _is_news(proof, message.payload):
                continue
            text = message.payload.decode("utf-8", "replace")
            click.echo(text if as_json else _event_line(text))
            seen += 1
            if count is not None and seen >= count:
                break
    except KeyboardInterrupt:
        pass
    finally:
        timer.cancel()
    if proof is not None:
        sys.exit(_tell_proof(proof))


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)


def _is_news(proof: Proof, payload: bytes) -> bool:
    """Book a message, tell what is remarkable; whether it is an event not seen before."""
    try:
        arrival = proof.add(payload)
    except PayloadError as error:
        _tell(str(error))
        return False
    if arrival.remark:
        _tell(arrival.remark)
    return arrival.is_first


def _tell_proof(proof: Proof) -> int:
    results = proof.results()
    for result in results:
        _tell(str(result))
    if not results:
        _tell("no event came: nothing is proven")
    return 0 if all(result.complete for result in results) else EXIT_FAILED


def _event_line(text: str) -> str:
    try:
        fact = json.loads(text)
        flaw, detail = fact.get("defect"), fact.get("detail")
        head = f"{fact['time'][11:23]} #{fact['seq']:<6} {fact['camera']:10} {fact['type']:15}"
        if flaw:
            x, y, w, h = flaw["box_px"]
            head += f" {flaw['class']:16} {flaw['confidence']:.2f}  at {x},{y} {w}x{h} px"
            if fact["type"] == "defect.closed":
                head += f", {flaw['frames']} frames"
        if detail:
            head += " " + json.dumps(detail)
        return head + ("  (replayed)" if fact.get("replayed") else "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"not an event: {text[:200]}"


@main.command()
@config_option
@json_option
@click.option("--since", help="Only events from this time on: 10m, 2h, or 2026-11-22T13:00:00Z.")
@click.option("-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="At most this many.")
@click.option("--refused", is_flag=True, help="Only those that the broker refused.")
@refusals_told
def events(config_path: Path, as_json: bool, since: str | None, limit: int, refused: bool) -> None:
    """What is stored on this box, delivered or not, oldest first."""
    from edge import config
    from edge.daemon import OUTBOX_FILE
    from edge.delivery.outbox import read_events

    settings = config.load(config_path)
    store = settings.state_dir / OUTBOX_FILE
    stored = read_events(store, since_wall_ns=_since(since), limit=limit, only_refused=refused)
    for row in stored:
        if as_json:
            click.echo(json.dumps({"delivery": row.state, "reason": row.reason, **json.loads(row.payload)}))
        else:
            click.echo(f"{row.state:9} {_event_line(row.payload.decode())}")
    if not stored and not as_json:
        click.echo("no events stored", err=True)


@main.group("dead-letters")
def dead_letters() -> None:
    """Events that the broker refused for good: look at them, send them again, or delete them.

    Works on the store of this box, whether the daemon runs or not.
    """


@dead_letters.command("list")
@config_option
@json_option
@click.option("-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="At most this many.")
@refusals_told
def list_dead_letters(config_path: Path, as_json: bool, limit: int) -> None:
    """What was refused, oldest first: seq, topic, code and the broker's reason."""
    from edge import config
    from edge.clock import stamp
    from edge.daemon import OUTBOX_FILE
    from edge.delivery.outbox import read_dead_letters

    found = read_dead_letters(config.load(config_path).state_dir / OUTBOX_FILE, limit)
    for letter in found:
        at, code = stamp(letter.refused_ns), f"0x{letter.code:02x}"
        if as_json:
            head = {"seq": letter.seq, "event_id": letter.event_id, "topic": letter.topic, "refused": at, "code": code}
            click.echo(json.dumps({**head, "reason": letter.reason, "event": json.loads(letter.payload)}))
        else:
            click.echo(f"#{letter.seq:<6} {at} {letter.topic} {code} {letter.reason}")
    if not found and not as_json:
        _tell("no dead letters")


@dead_letters.command()
@config_option
@click.argument("seqs", metavar="[SEQ]...", nargs=-1, type=click.IntRange(1))
@click.option("--all", "everything", is_flag=True, help="All of them.")
@refusals_told
def retry(config_path: Path, seqs: tuple[int, ...], everything: bool) -> None:
    """Let refused events wait for delivery again, under their old seq. A running daemon sends them within a second."""
    _settle(config_path, "retry", seqs, everything=everything)


@dead_letters.command()
@config_option
@click.argument("seqs", metavar="[SEQ]...", nargs=-1, type=click.IntRange(1))
@click.option("--all", "everything", is_flag=True, help="All of them.")
@refusals_told
def discard(config_path: Path, seqs: tuple[int, ...], everything: bool) -> None:
    """Delete refused events for good."""
    _settle(config_path, "discard", seqs, everything=everything)


def _settle(
    config_path: Path, action: Literal["retry", "discard"], seqs: tuple[int, ...], *, everything: bool
) -> None:
    from edge import config
    from edge.daemon import OUTBOX_FILE
    from edge.delivery.outbox import settle_dead_letters

    if bool(seqs) == everything:
        raise click.UsageError("give the seq of one or more dead letters, or --all")
    store = config.load(config_path).state_dir / OUTBOX_FILE
    done = settle_dead_letters(store, action, None if everything else seqs)
    click.echo(f"{done} {'wait for delivery again' if action == 'retry' else 'deleted'}")
    if seqs and done < len(set(seqs)):
        _tell(f"{len(set(seqs)) - done} of them are no dead letters: see `defectd dead-letters list`")
        sys.exit(EXIT_FAILED)


def _since(text: str | None) -> int:
    from edge.clock import NS_PER_S, SystemClock

    if text is None:
        return 0
    try:
        moment = datetime.fromisoformat(text)
        return int(moment.astimezone(UTC).timestamp() * NS_PER_S)
    except ValueError:
        return SystemClock().wall_ns() - int(Seconds().convert(text, None, None) * NS_PER_S)


@main.command()
@json_option
@click.option("--bundle", "bundle_path", default="builtin", show_default=True, help="The model bundle.")
@click.option("--calls", type=click.IntRange(10, 100_000), default=300, show_default=True, help="n of each figure.")
@click.option("--cameras", "with_cameras", is_flag=True, help="Also find out how many cameras this box holds; minutes.")
@click.option("--for", "for_s", type=Seconds(), default="10s", show_default=True, help="For each number of cameras.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="ONNX file of the reference network (tests/bench makes it): its recipe is measured beside ours.",
)
@refusals_told
def bench(
    as_json: bool, bundle_path: str, calls: int, with_cameras: bool, for_s: float, reference: Path | None
) -> None:
    """Latency of this box per tile and per frame, beside the loops of others."""
    one_thread_each()
    from edge import bundle
    from edge.bench import ROWS, loads, measure, side_by_side

    loaded = bundle.load(bundle_path)
    if not as_json:
        click.echo(f"{loaded.card.name} {loaded.card.version}; times in ms; quote ratios, not milliseconds")
        click.echo(f"{'what':34} {'threads':>7} {'batch':>5} {'median':>9} {'p99':>9} {'per tile':>9} {'n':>6}")
    with _progress(ROWS, "measuring", hidden=sys.stdout.isatty()) as advance:
        for row in measure(loaded, calls):
            if as_json:
                click.echo(json.dumps(asdict(row)))
            else:
                click.echo(
                    f"{row.what:34} {row.threads:>7} {row.batch:>5} {row.median_ms:>9.3f} {row.p99_ms:>9.3f} "
                    f"{row.median_ms / row.tiles:>9.4f} {row.n:>6}"
                )
            advance()
    if not as_json:
        click.echo(f"\n{'one thread, in turns, us per tile':56} {'median':>9} {'p99':>9} {'ratio':>7} {'n':>6}")
    for side in side_by_side(loaded, calls, reference):
        if as_json:
            click.echo(json.dumps(asdict(side)))
        else:
            click.echo(f"{side.what:56} {side.median_us:>9.1f} {side.p99_us:>9.1f} {side.ratio:>7.2f} {side.n:>6}")
    if reference is None and not as_json:
        click.echo("the reference's recipe is left out: give its network with --reference")
    if with_cameras:
        _bench_cameras(loads(loaded, for_s), as_json=as_json)


def _bench_cameras(measured: Iterator[Any], *, as_json: bool) -> None:
    if not as_json:
        click.echo("\ncameras of 1600x256: grab to verdict in ms; cores and MB of the daemon, and of each camera")
        head = ("cameras", "fps", "verdict", "p50", "p99", "p99.9", "max", "partial", "missed", "cores", "MB", "n")
        click.echo(" ".join(f"{name:>9}" for name in head))
    for load in measured:
        if as_json:
            click.echo(json.dumps(asdict(load)))
            continue
        total = load.total
        cores = f"{load.daemon_cpu:.2f}/{load.camera_cpu:.2f}"
        memory = f"{load.daemon_bytes >> 20}/{load.camera_bytes >> 20}"
        click.echo(
            f"{load.cameras:>9} {load.fps:>9g} {load.verdict:>9} {total.p50:>9.1f} {total.p99:>9.1f} "
            f"{total.p999:>9.1f} {total.max:>9.1f} {load.partial:>9.1%} {load.missed:>9.1%} {cores:>9} {memory:>9} "
            f"{total.n:>9}"
        )


@main.command()
@config_option
@json_option
@click.option("--no-cameras", is_flag=True, help="Do not open the cameras.")
@refusals_told
def doctor(config_path: Path, as_json: bool, no_cameras: bool) -> None:
    """What is wrong with this box: model, disk, memory, clock, heat, certificates, broker, cameras.

    Each finding has a remedy. Ends with 1 when something is bad.
    """
    from edge import config
    from edge.clock import SystemClock
    from edge.doctor import examine

    settings = config.load(config_path)
    bad = False
    for finding in examine(settings, SystemClock(), cameras=not no_cameras):
        bad = bad or finding.grade == "bad"
        if as_json:
            click.echo(json.dumps(asdict(finding)))
        else:
            remedy = f"\n         -> {finding.remedy}" if finding.remedy else ""
            click.echo(f"{finding.grade:8} {finding.about}: {finding.says}{remedy}")
    sys.exit(EXIT_FAILED if bad else 0)


@main.group()
def model() -> None:
    """Model bundles."""


@model.command()
@click.argument("bundle_path", metavar="BUNDLE", default="builtin")
@json_option
@refusals_told
def show(bundle_path: str, as_json: bool) -> None:
    """What a bundle says of itself."""
    from edge import bundle

    card = bundle.load(bundle_path).card.model_dump(mode="json", by_alias=True, exclude={"selftest"})
    click.echo(json.dumps(card) if as_json else json.dumps(card, indent=2))


@model.command()
@click.argument("bundle_path", metavar="BUNDLE", default="builtin")
@refusals_told
def verify(bundle_path: str) -> None:
    """Check a bundle's hashes and run its self-test on this processor."""
    from edge import bundle
    from edge.vision.classifier import Classifier

    loaded = bundle.load(bundle_path)
    for network in loaded.networks:
        Classifier(loaded, network=network).selftest()
    click.echo(f"{loaded.origin}: {loaded.card.name} {loaded.card.version}: good")


if __name__ == "__main__":
    main()
