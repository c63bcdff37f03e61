"""The configuration: what is read, what is refused, and what an error message shows and hides."""

import copy
import dataclasses
import json
import logging
import os
import traceback
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import config
from edge.config import Camera, broker_address, load, parse, yaml_file
from edge.control.effective_config import with_calibrations
from edge.errors import ConfigError
from edge.host.redact import redact

SHIPPED = Path(__file__).parents[3] / "config.yaml"
SECRET = "hunter2"
BASE = {"node": "n1", "cameras": [{"name": "top", "source": "strip:"}]}


def read(tmp_path, text, env=None):
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path, env or {})


def read_with(tmp_path, extra, env=None):
    return read(tmp_path, f"node: n1\ncameras: [{{name: top, source: 'strip:'}}]\n{extra}\n", env)


def checked(raw, env=None, base=Path("/etc/defectd")):
    return parse(raw, origin="test", base=base, env=env or {})


def camera(**keys):
    return {**BASE, "cameras": [{"name": "top", "source": "strip:", **keys}]}


def problems(raw, env=None):
    with pytest.raises(ConfigError) as caught:
        checked(raw, env)
    return {p.key: p for p in caught.value.problems}


def refusal(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return str(caught.value)


# ---- what is read ------------------------------------------------------------------------------


def test_shipped_file_is_valid():
    """config.yaml in the repository is a valid configuration."""
    assert load(SHIPPED, {}).node == "line3"


def test_smallest_file_gives_all_defaults():
    """A node and one camera are enough."""
    found = checked(BASE)
    assert found.mqtt.is_embedded
    assert found.cameras[0].budget_ms == 20.0
    assert found.cameras[0].decision == found.decision


def test_configuration_cannot_be_changed():
    """Models are frozen: a checked value stays as it is."""
    with pytest.raises(ValueError, match="frozen"):
        checked(BASE).node = "other"


def test_anchors_and_merge_keys_save_typing(tmp_path):
    """Two cameras may share keys through YAML's anchors, and override them."""
    text = """
node: n1
cameras:
  - &first {name: top, source: 'strip:', fps: 25, tile_px: 100}
  - {<<: *first, name: bottom, tile_px: 64}
"""
    top, bottom = read(tmp_path, text).cameras
    assert (top.name, top.fps, top.tile_px) == ("top", 25, 100)
    assert (bottom.name, bottom.fps, bottom.tile_px) == ("bottom", 25, 64)


def test_file_with_a_byte_order_mark_is_read(tmp_path):
    """Windows editors write it."""
    text = "\ufeffnode: n1\ncameras: [{name: top, source: 0}]\n"
    assert read(tmp_path, text).node == "n1"


def test_date_like_text_stays_text(tmp_path):
    """YAML would make a date of it; a node may have such a name."""
    text = "node: 2026-11-22\ncameras: [{name: top, source: 0}]"
    assert read(tmp_path, text).node == "2026-11-22"


@pytest.mark.parametrize("version", [5, "5"])
def test_protocol_five_needs_no_quotes(version):
    """`protocol: 5` means MQTT 5, though YAML reads a number."""
    assert checked({**BASE, "mqtt": {"protocol": version}}).mqtt.protocol == "5"


def test_device_index_may_be_a_number():
    """`source: 0` is the first device."""
    assert checked(camera(source=0)).cameras[0].source.get_secret_value() == "0"


def test_switched_off_cameras_are_left_out():
    """`enabled: false` keeps a camera in the file and out of inspection."""
    raw = {**BASE, "cameras": [{"name": "a", "source": 0}, {"name": "b", "source": 1, "enabled": False}]}
    assert [c.name for c in checked(raw).active_cameras] == ["a"]


# ---- references ---------------------------------------------------------------------------------


def test_references_fill_numbers_switches_and_nested_lists():
    """${NAME}, ${NAME:-default} and ${file:PATH} work wherever a text may stand."""
    raw = camera(fps="${FPS}", loop="${LOOP:-true}", roi=["${X:-1}", 2, "${W}", "4${ZERO}"])
    found = checked(raw, {"FPS": "12.5", "W": "30", "ZERO": "0"}).cameras[0]
    assert (found.fps, found.loop, found.roi) == (12.5, True, (1, 2, 30, 40))


def test_file_reference_is_relative_to_the_file_and_stripped(tmp_path):
    """A file with a secret lies beside the configuration; its line end is not part of the secret."""
    (tmp_path / "pw").write_text(f"{SECRET}\n")
    found = read_with(tmp_path, "mqtt: {username: u, password: '${file:pw}'}")
    assert found.mqtt.read_password() == SECRET


def test_credential_is_systemds_inside_the_unit_and_beside_the_file_outside(tmp_path):
    """credential:NAME is a path, ${credential:NAME} its content: the same configuration works in a shell."""
    extra = "mqtt: {username: u, password_file: 'credential:pw'}\nlog: {level: '${credential:level}'}"
    inside = tmp_path / "inside"
    inside.mkdir()
    for folder, words, level in ((tmp_path, "shell", "debug"), (inside, "unit", "error")):
        (folder / "pw").write_text(f"{words}\n")
        (folder / "level").write_text(level)
    outside = read_with(tmp_path, extra)
    within = read_with(tmp_path, extra, {"CREDENTIALS_DIRECTORY": str(inside)})
    assert (outside.mqtt.read_password(), outside.log.level) == ("shell", "debug")
    assert (within.mqtt.read_password(), within.log.level) == ("unit", "error")


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b"])
def test_credential_with_an_impossible_name_is_refused(name):
    """A credential is one file: nothing else can be reached through it."""
    found = problems({**BASE, "mqtt": {"username": "u", "password_file": f"credential:{name}"}})
    assert "credential:NAME" in found["mqtt.password_file"].allowed


def test_filled_text_is_not_filled_again():
    """A value that looks like a reference after filling stays as it is."""
    found = checked({**BASE, "mqtt": {"username": "u", "password": "${PW}"}}, {"PW": "${OTHER}"})
    assert found.mqtt.read_password() == "${OTHER}"


def test_empty_variable_counts_as_set():
    """${NAME:-default} gives the default only where NAME is missing."""
    assert checked({**BASE, "mqtt": {"username": "${U:-x}"}}, {"U": ""}).mqtt.username == ""


@pytest.mark.parametrize(
    ("reference", "allowed"),
    [
        ("${MISSING}", "not set"),
        ("${}", "not a reference"),
        ("${a b}", "not a reference"),
        ("${file:none}", "cannot be read"),
        ("${file:a\0b}", "cannot be read"),
        ("${file:}", "cannot be read"),
        ("${\ud800}", "not a reference"),
    ],
)
def test_reference_to_nowhere_is_reported_once(reference, allowed):
    """The problem names the key and the reference; its consequences are not reported as well."""
    found = problems(camera(fps=reference))
    assert list(found) == ["cameras[0].fps"]
    assert allowed in found["cameras[0].fps"].allowed
    assert found["cameras[0].fps"].value == reference


def test_endless_file_reference_is_refused():
    """A reference to a device or a huge file does not fill the memory."""
    found = problems(camera(source="${file:/dev/zero}"))
    assert "larger than 64 KiB" in found["cameras[0].source"].allowed


def test_password_file_is_read_anew(tmp_path):
    """A rotated password is used at the next connection."""
    (tmp_path / "pw").write_text("old\n")
    mqtt = read_with(tmp_path, "mqtt: {username: u, password_file: pw}").mqtt
    assert mqtt.read_password() == "old"
    (tmp_path / "pw").write_text("new\n")
    assert mqtt.read_password() == "new"


# ---- paths --------------------------------------------------------------------------------------


def test_relative_paths_are_relative_to_the_file():
    """state_dir, bundle, TLS files and recordings lie beside the configuration."""
    raw = {
        "node": "n1",
        "state_dir": "var",
        "model": {"bundle": "b.zip"},
        "mqtt": {"ca_file": "ca.pem", "cert_file": "/abs/c.pem", "key_file": "k.pem"},
        "cameras": [{"name": "a", "source": "clips/*.png"}],
    }
    found = checked(raw, base=Path("/etc/defectd"))
    assert found.state_dir == Path("/etc/defectd/var")
    assert found.model.bundle == "/etc/defectd/b.zip"
    assert found.mqtt.ca_file == Path("/etc/defectd/ca.pem")
    assert found.mqtt.cert_file == Path("/abs/c.pem")
    assert found.cameras[0].source.get_secret_value() == "/etc/defectd/clips/*.png"


def test_home_directory_is_resolved(tmp_path, monkeypatch):
    """~ is the home directory of the user that reads."""
    monkeypatch.setenv("HOME", str(tmp_path))
    found = checked({**camera(source="~/clip.mp4"), "state_dir": "~/var"})
    assert found.state_dir == tmp_path / "var"
    assert found.cameras[0].source.get_secret_value() == str(tmp_path / "clip.mp4")


@pytest.mark.parametrize("source", ["0", "12", "strip:", "strip:?width=800", "rtsp://h/1", "http://h/x"])
def test_devices_and_urls_are_not_paths(source):
    """They stay as they are."""
    assert checked(camera(source=source)).cameras[0].source.get_secret_value() == source


@pytest.mark.parametrize("source", ["clip.mp4", "0.mp4", "²", "٣", "-", "video 1.mp4"])
def test_everything_else_is_a_path(source):
    """Also texts that Python takes for digits and that are not device numbers."""
    assert checked(camera(source=source)).cameras[0].source.get_secret_value() == f"/etc/defectd/{source}"


@pytest.mark.parametrize("path", ["", "a\0b", "~no-such-user-here/x"])
@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("state_dir", lambda path: {**BASE, "state_dir": path}),
        ("model.bundle", lambda path: {**BASE, "model": {"bundle": path}}),
        ("mqtt.password_file", lambda path: {**BASE, "mqtt": {"username": "u", "password_file": path}}),
        ("cameras[0].source", lambda path: camera(source=path)),
    ],
)
def test_impossible_path_is_refused(path, key, raw):
    """An empty path, a zero byte and an unknown home are problems of their key."""
    assert key in problems(raw(path))


# ---- inheritance --------------------------------------------------------------------------------


def test_camera_inherits_and_overrides_the_common_decision():
    """A camera's `decision` overrides the top-level one, key by key; `classes` is one key."""
    raw = {
        **BASE,
        "decision": {"confidence": 0.7, "close_frames": 9, "classes": {"crazing": 0.9}},
        "cameras": [
            {"name": "a", "source": 0},
            {"name": "b", "source": 1, "decision": {"confidence": 0.8, "classes": {"patches": 0.5}}},
        ],
    }
    a, b = checked(raw).cameras
    assert (a.decision.confidence, a.decision.close_frames, a.decision.classes) == (0.7, 9, {"crazing": 0.9})
    assert (b.decision.confidence, b.decision.close_frames, b.decision.classes) == (0.8, 9, {"patches": 0.5})


def test_checking_does_not_change_the_raw_value():
    """The raw value can be checked again: the inherited keys are not written into it."""
    raw = {**BASE, "decision": {"confidence": 0.7}}
    before = copy.deepcopy(raw)
    checked(raw)
    assert raw == before


def test_wrong_common_decision_is_reported_once():
    """Cameras that inherit it do not repeat the problem."""
    raw = {**BASE, "decision": {"confidence": 2}, "cameras": [{"name": n, "source": 0} for n in "abc"]}
    assert list(problems(raw)) == ["decision.confidence"]


def test_wrong_decision_of_a_camera_is_reported_at_the_camera():
    """Where the camera sets the key, its place is named, beside the common one."""
    raw = {**camera(decision={"confidence": 3}), "decision": {"confidence": 2}}
    assert list(problems(raw)) == ["decision.confidence", "cameras[0].decision.confidence"]


def test_contradiction_with_an_inherited_value_is_reported():
    """A camera's threshold below the inherited `unsure` is a problem of the camera."""
    assert "cameras[0].decision" in problems(camera(decision={"confidence": 0.2}))


# ---- error messages ---------------------------------------------------------------------------


def test_all_problems_are_reported_at_once():
    """One run of `check` names everything that is wrong, each with key, value, allowed and remedy."""
    raw = {
        "node": "a/b",
        "report_s": 0,
        "log": {"level": "loud"},
        "model": {"threads": 0, "bacth": 3},
        "outbox": {"max_rows": "many"},
        "mqtt": {"broker": "tcp://h", "keepalive_s": 1},
        "cameras": [{"name": "status", "source": "", "fps": -1}, {"source": 1}],
    }
    found = problems(raw)
    assert set(found) == {
        "node",
        "report_s",
        "log.level",
        "model.threads",
        "model.bacth",
        "outbox.max_rows",
        "mqtt.broker",
        "mqtt.keepalive_s",
        "cameras[0].name",
        "cameras[0].source",
        "cameras[0].fps",
        "cameras[1].name",
    }
    for problem in found.values():
        assert all(dataclasses.astuple(problem)), problem
        assert str(problem).startswith(f"{problem.key}: {problem.value}: ")
    assert found["model.bacth"].remedy.startswith("Write 'batch'. Known here: batch, ")
    assert found["model.threads"].value == "0"
    assert "greater than or equal to 1" in found["model.threads"].allowed


def test_problems_of_one_section_are_reported_together():
    """All contradictions within `mqtt` are in one message."""
    raw = {**BASE, "mqtt": {"broker": "mqtt://far", "password": "x", "password_file": "y", "cert_file": "z"}}
    allowed = problems(raw)["mqtt"].allowed
    for part in ("both set", "no username", "go together", "not be encrypted"):
        assert part in allowed


def test_two_cameras_of_one_name_are_refused():
    """Their events would be indistinguishable."""
    raw = {**BASE, "node": "?", "cameras": [{"name": "a", "source": 0}, {"name": "a", "source": 1}]}
    found = problems(raw)
    assert "'a' is used twice" in found["cameras"].allowed
    assert "node" in found


@pytest.mark.parametrize("name", ["tuple", "int", "a[b", "[key]", "", "ümlaut", "x" * 5000])
def test_unknown_key_of_any_name_is_named(name):
    """The message is right for every name of a key."""
    found = problems({**BASE, name: 1})
    assert len(found) == 1
    assert next(iter(found.values())).allowed.startswith("unknown key")


@pytest.mark.parametrize("key", [1, None, True, 1.5, -3])
def test_key_that_is_not_a_text_is_refused(key):
    """Numbers, null and switches are not keys, at the top and below."""
    assert problems({**BASE, key: 1})
    assert problems({**BASE, "decision": {key: 1}})
    assert problems({**BASE, "decision": {"classes": {key: 0.5}}})
    assert problems(camera(decision={"classes": {key: 0.5}}))


@pytest.mark.parametrize("section", ["log", "mqtt", "model", "outbox", "decision"])
@pytest.mark.parametrize("value", [None, 1, "x", [1]])
def test_section_that_is_not_a_mapping_is_refused(section, value):
    """The message about an empty section does not use Python's words."""
    found = problems({**BASE, section: value})[section]
    assert found.allowed == "should be a mapping of keys"


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("model.threads", {**BASE, "model": {"threads": True}}),
        ("report_s", {**BASE, "report_s": True}),
        ("decision.classes", {**BASE, "decision": {"classes": {"crazing": True}}}),
        ("cameras[0].fps", camera(fps=True)),
        ("cameras[0].roi", camera(roi=[True, 0, 5, 5])),
        ("cameras[0].roi", camera(roi=[[0, 0], [5, True], [5, 5]])),
        ("cameras[0].exposure", camera(exposure=False)),
        ("cameras[0].source", camera(source=True)),
        ("mqtt.protocol", {**BASE, "mqtt": {"protocol": True}}),
        ("mqtt.username", {**BASE, "mqtt": {"username": False}}),
    ],
)
def test_switch_is_not_a_number(key, raw):
    """`on` for a number is refused, not taken for 1."""
    assert key in problems(raw)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "nan", "1e999", 10**400, -(10**30)])
def test_number_out_of_every_range_is_refused(value):
    """NaN, infinities and numbers beyond every range are refused wherever a number stands."""
    assert "report_s" in problems({**BASE, "report_s": value})
    assert "decision.classes.x" in problems({**BASE, "decision": {"classes": {"x": value}}})
    if value != -(10**30):
        assert "cameras[0].exposure" in problems(camera(exposure=value))
    assert "outbox.max_rows" in problems({**BASE, "outbox": {"max_rows": value}})


def test_integer_too_long_to_print_is_refused():
    """A number of thousands of digits is a problem like any other."""
    assert problems({**BASE, "report_s": 1 << 20_000})["report_s"].value == "a very large number"


@pytest.mark.parametrize(
    "roi",
    [
        [],
        [1, 2, 3],
        [0, 0, 0, 5],
        [-1, 0, 5, 5],
        [0, 0, 1.5, 2],
        [[0, 0], [1, 1]],
        [[0, 0], [5, 0], [9, 0]],
        [[0, 0]] * 65,
        [0, 0, 1 << 40, 5],
        [[0, 0], [1 << 40, 0], [5, 5]],
        "0,0,5,5",
        {"x": 1},
    ],
)
def test_region_without_surface_is_refused(roi):
    """Wrong counts, negative or huge numbers, and polygons without area."""
    assert "cameras[0].roi" in problems(camera(roi=roi))


# ---- the broker ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broker", "address"),
    [
        ("embedded", ("127.0.0.1", 1883, False)),
        ("embedded:2000", ("127.0.0.1", 2000, False)),
        ("mqtt://localhost", ("localhost", 1883, False)),
        ("mqtt://127.0.0.2:5", ("127.0.0.2", 5, False)),
        ("mqtt://[::1]:1884", ("::1", 1884, False)),
        ("mqtts://broker.plant", ("broker.plant", 8883, True)),
        ("MQTTS://broker:99/", ("broker", 99, True)),
    ],
)
def test_broker_forms(broker, address):
    """Every form of the manual gives host, port and TLS; clear text to this machine needs no permission."""
    assert checked({**BASE, "mqtt": {"broker": broker}}).mqtt.address == address


@pytest.mark.parametrize(
    "broker",
    [
        "",
        "embeddedx",
        "embedded:",
        "embedded:0",
        "embedded:65536",
        "embedded:²",
        "embedded:٣",
        "embedded:" + "1" * 5000,
        "tcp://h",
        "broker:1883",
        "mqtt://",
        "mqtts://h:0",
        "mqtts://h:65536",
        "mqtts://h:x",
        "mqtts://[::1",
        "mqtts://h/path",
        "mqtts://h?x=1",
        "mqtts://a b",
        "mqtts://a\nb",
        "mqtt://far",
        "mqtt://@h",
    ],
)
def test_broker_that_cannot_be_reached_is_refused(broker):
    """Anything else is a problem of `mqtt`; the message names the allowed forms."""
    assert set(problems({**BASE, "mqtt": {"broker": broker}})) & {"mqtt", "mqtt.broker"}


def test_clear_text_to_another_machine_needs_permission():
    """`allow_plaintext` is that permission."""
    mqtt = {"broker": "mqtt://far", "allow_plaintext": True}
    assert checked({**BASE, "mqtt": mqtt}).mqtt.address == ("far", 1883, False)


@pytest.mark.parametrize("prefix", ["a b", "a/#", "+", "$SYS", "/a", "", "a\0b", "x" * 201])
def test_impossible_topic_prefix_is_refused(prefix):
    """Wildcards, spaces, the broker's own topics and an empty first level."""
    assert "mqtt.topic_prefix" in problems({**BASE, "mqtt": {"topic_prefix": prefix}})


@pytest.mark.parametrize("name", ["a/b", "a b", "+", "#", "", "-a", ".a", "x" * 64, "top\n", "status", "cmd", "node"])
def test_name_that_breaks_a_topic_is_refused(name):
    """Names are single levels of a topic, and none of the node's own."""
    assert "cameras[0].name" in problems(camera(name=name))


# ---- secrets -------------------------------------------------------------------------------------

URLS = [
    f"rtsp://admin:{SECRET}@10.0.0.5/ch1",
    f"rtsp://admin:p/{SECRET}@10.0.0.5/ch1",
    f"rtsp://admin:p?{SECRET}#x@10.0.0.5/ch1",
    f"rtsp://admin:p@{SECRET}@10.0.0.5/ch1",
    f"rtsp://admin:{SECRET}%40%2F@10.0.0.5/ch1",
    f"rtsp://{SECRET}@10.0.0.5/ch1",
    f"rtsp://:{SECRET}@10.0.0.5/ch1",
    f"rtsp://10.0.0.5/user=admin&password={SECRET}&channel=1",
    f"http://cam/video.cgi?pwd={SECRET}",
    f"http://cam/video.cgi?x=1&Token={SECRET}/{SECRET}#f",
]


@pytest.mark.parametrize("url", URLS)
def test_redaction_leaves_no_credentials(url):
    """User names, passwords and tokens are removed, in odd forms too."""
    assert SECRET not in redact(url)
    assert SECRET not in redact(f"could not open '{url}': timeout, then {url}, again")


@pytest.mark.parametrize("text", ["strip:", "/a/b@c.png", "x@y.z", "rtsp://10.0.0.5/ch1", "", "a://b c@d"])
def test_redaction_leaves_plain_text(text):
    """Text without credentials stays as it is."""
    assert redact(text) == text


def test_redaction_of_a_long_text_is_quick():
    """Very long lines do not take quadratic time."""
    assert redact("a" * 300_000) == "a" * 300_000


@pytest.mark.parametrize("url", URLS)
def test_source_secret_stays_out_of_repr_and_log(url, caplog):
    """Repr and dump of the configuration show no credentials of a camera; nor does the refusal of its URL."""
    try:
        found = checked(camera(source=url))
        logging.getLogger("edge.test").warning("%s %r", found, found.cameras)
        shown = repr(found) + str(found.model_dump()) + found.model_dump_json()
    except ConfigError as error:
        shown = "".join(traceback.format_exception(error))
    assert SECRET not in shown + caplog.text


def test_hash_depends_on_everything_but_secrets():
    """Two nodes that differ only in passwords have the same hash; any other key changes it."""

    def digest(source="rtsp://u:a@h/1", password="a", **keys):
        return checked({**camera(source=source), "mqtt": {"username": "u", "password": password}, **keys}).sha256

    assert digest() == digest(source="rtsp://u:b@h/1", password="b")
    assert digest() != digest(source="rtsp://u:a@h/2")
    assert digest() != digest(report_s=11)
    assert len(digest()) == 64


@pytest.mark.parametrize(
    "mqtt",
    [
        {"passwrod": SECRET},
        {"auth": {"x": SECRET}},
        {"username": "u", "password": [SECRET]},
        {"username": "u", "password": {"x": SECRET}},
        {"password": SECRET},
        {"broker": f"mqtts://u:{SECRET}@h"},
        {"broker": f"mqtts://u:{SECRET}/x@h"},
        {"broker": f"mqtts://u:{SECRET} x@h"},
        {"broker": f"mqtts://u:1{SECRET}"},
        {"topic_prefix": "${SECRET} x"},
        {"keepalive_s": "${SECRET}"},
        {"protocol": "${file:secret}"},
        [{"password": SECRET}],
    ],
)
def test_error_never_shows_a_secret(mqtt, tmp_path):
    """Not for a mistyped key, a wrong type, a broken URL, nor a value that a reference brought in."""
    (tmp_path / "secret").write_text(SECRET)
    with pytest.raises(ConfigError) as caught:
        checked({**BASE, "mqtt": mqtt}, {"SECRET": SECRET}, base=tmp_path)
    shown = "".join(traceback.format_exception(caught.value))
    if mqtt != {"broker": f"mqtts://u:1{SECRET}"}:  # a port that is none: not a credential by its place
        assert SECRET not in shown


@pytest.mark.parametrize(
    "line",
    [
        f"password: 'it\"s {SECRET}",
        f'password: "{SECRET}',
        f"password: *{SECRET}",
        f"password: !{SECRET} x",
        f"password: !!python/name:{SECRET}",
        f"password: @{SECRET}",
        f"password: %{SECRET}",
        f"password: a: {SECRET}",
        f"password: {{{SECRET}",
        f"password: {SECRET}\n\tx: 1",
        f"password: {SECRET}\x00",
        f"password: {SECRET}\n  password: {SECRET}",
        f"password: !!int {SECRET}",
    ],
)
def test_yaml_error_never_shows_the_line(line, tmp_path):
    """The message about an unreadable file gives line and column, without the text there."""
    path = tmp_path / "c.yaml"
    path.write_text(f"node: n1\nmqtt:\n  {line}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


# ---- odd files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "mapping of keys"),
        (b"# only this\n", "mapping of keys"),
        (b"- a\n- b\n", "mapping of keys"),
        (b"just text", "mapping of keys"),
        (b"42", "mapping of keys"),
        (b"a: 1\n---\nb: 2\n", "second document"),
        (b"\tnode: a\n", "line 1, column 1"),
        (b"node: a\nnode: b\n", "line 2, column 1: this key is repeated"),
        (b"node: a\n'node': b\n", "is repeated"),
        (b"log: {level: info, level: debug}", "is repeated"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"\x00\x01", "character that YAML does not allow"),
        (b"a: " + b"[" * 200_000, "too deep"),
        (b"a: " + b"{b: " * 5000, "too deep"),
        (b"a: " + b"[" * 30 + b"]" * 30, "too deep"),
        (b"a: &a [*a]", "too deep"),
        (b"a: &a {b: *a}", "too deep"),
        (b"a: &a {<<: *a}", ""),
        (b"a: *b", "needs quotes"),
        (b"a: !x y", "needs quotes"),
        (b"a: !!python/object/apply:os.system [ls]", "needs quotes"),
        (b"a: !!binary aGk=", "needs quotes"),
        (b"a: !!set {x, y}", "needs quotes"),
        (b"a: !!timestamp x", "needs quotes"),
        (b"a: !!bool x", "line 1, column 4"),
        (b"a: !!float x", "line 1, column 4"),
        (b"a: " + b"1" * 5000, "looks like a number"),
        (b"a: 0x" + b"f" * 5000, "beyond 64 bits"),
        (b"a: -99999999999999999999", "beyond 64 bits"),
        (b"? [a]\n: b", "line 1"),
        (b"? {a: b}\n: b", "line 1"),
        (b"=: 1", ""),
        (b"a: " + b"x" * 600_000, "larger than 512 KiB"),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else "",
)
def test_odd_file_is_refused_with_a_reason(tmp_path, text, reason):
    """Any content of the file ends in a ConfigError that names the file."""
    message = refusal(tmp_path, text)
    assert reason in message
    assert "config.yaml" in message


@pytest.mark.parametrize(
    "bomb",
    [
        "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))]),
        "\n".join(
            ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12))]
        ),
    ],
    ids=["aliases", "merge keys"],
)
def test_file_that_expands_without_end_is_refused(tmp_path, bomb):
    """A few lines of aliases cannot fill the memory; PyYAML 6.0.4 merges equal keys into one, which helps too."""
    message = refusal(tmp_path, bomb)
    assert "too m" in message or ("a11: a mapping" in message and "<<" in bomb)


def test_huge_file_is_not_read(tmp_path):
    """Ten megabytes, or an endless device, are refused by their size."""
    assert "larger than" in refusal(tmp_path, b"#" * 10_000_000)
    with pytest.raises(ConfigError, match="larger than"):
        load(Path("/dev/zero"), {})


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b"])
def test_file_that_cannot_be_opened_is_refused(tmp_path, name):
    """A missing file, a directory, an impossible name."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / name, {})


def test_loader_leaves_other_yaml_alone():
    """Other users of the library may still load what this module refuses."""
    assert yaml.safe_load("2026-11-22").year == 2026


# ---- anything at all -----------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["${X}", "${X:-1}", "${file:/nope}", "~x/y", "rtsp://a:b@c", "embedded:1", "\0", "\ud800", "1e5"]),
    st.sampled_from([10**40, -1, 0, 1 << 12_000, b"\xff", float("nan")]),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(SCALARS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def places(value, at=()):
    yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*at, index))


ALL_PLACES = [place for place in places(yaml.safe_load(SHIPPED.read_text())) if place]


def put(raw, place, value):
    for part in place[:-1]:
        raw = raw[part]
    raw[place[-1]] = value


def outcome(attempt):
    """The configuration, or the problems; any other exception is the test's failure."""
    try:
        found = attempt()
    except ConfigError as error:
        return None, error.problems
    return found, ()


@settings(max_examples=400)
@given(st.sampled_from(ALL_PLACES), VALUES)
def test_any_value_anywhere_gives_a_config_or_a_config_error(place, value):
    """Whatever replaces any value of the shipped file: a Config or a ConfigError, no other exception."""
    raw = yaml.safe_load(SHIPPED.read_text())
    put(raw, place, value)
    found, refused = outcome(lambda: checked(raw, {"X": "x"}))
    if found is not None:
        assert len(found.sha256) == 64
    assert all(p.key and p.value and p.allowed and p.remedy for p in refused)


@settings(max_examples=150)
@given(st.sampled_from(ALL_PLACES), SCALARS | st.text(max_size=5), VALUES)
def test_any_added_key_gives_a_config_or_a_config_error(place, key, value):
    """A key that is added anywhere gives a Config or a ConfigError."""
    raw = yaml.safe_load(SHIPPED.read_text())
    target = raw
    for part in place[:-1]:
        target = target[part]
    if isinstance(target, dict):
        target[key] = value
    outcome(lambda: checked(raw))


@settings(max_examples=150)
@given(
    st.integers(0, 6000),
    st.integers(0, 40),
    st.binary(max_size=12) | st.sampled_from([b"[", b"{", b"\t", b"&a ", b"*a ", b": ", b"? ", b"!", b"- "]),
)
def test_damaged_file_gives_a_config_or_a_config_error(tmp_path_factory, at, cut, inserted):
    """Bytes cut from or put into the shipped file anywhere."""
    text = SHIPPED.read_bytes()
    path = tmp_path_factory.mktemp("damaged") / "config.yaml"
    path.write_bytes(text[:at] + inserted + text[at + cut :])
    outcome(lambda: load(path, {}))


@given(st.text(max_size=40))
def test_any_text_is_a_broker_or_a_value_error(text):
    """No text makes the address raise anything else."""
    try:
        host, port, _ = broker_address(text)
    except ValueError:
        return
    assert host
    assert 1 <= port <= 65_535


@given(st.text(max_size=60))
def test_redaction_is_stable(text):
    """Redacting twice changes nothing more, whatever the text."""
    assert redact(redact(text)) == redact(text)


def test_schema_is_json():
    """The schema for editors is plain JSON, and describes every key of a camera."""
    schema = json.loads(json.dumps(config.json_schema()))
    assert set(schema["$defs"]["Camera"]["properties"]) == set(Camera.model_fields)


def test_bounds_of_the_reader_are_far_above_the_shipped_file():
    """The manual itself uses a small part of the allowed size."""
    assert SHIPPED.stat().st_size * 20 < yaml_file.MAX_BYTES
    assert len(ALL_PLACES) * 20 < yaml_file.MAX_VALUES


# ---- what is written -----------------------------------------------------------------------------


@pytest.mark.skipif("os.geteuid() != 0", reason="only root writes for somebody else")
def test_files_that_root_writes_belong_to_the_owner_of_the_folder(tmp_path):
    """`sudo defectd calibrate` leaves files that the daemon's user can read."""
    os.chown(tmp_path, 65_534, 65_534)
    path = tmp_path / "calibration" / "top.yaml"
    yaml_file.place({path: yaml_file.coded({"roi": [1, 2, 3, 4]})})
    assert yaml_file.read(path) == {"roi": [1, 2, 3, 4]}
    assert [(place.stat().st_uid, place.stat().st_gid) for place in (path, path.parent)] == [(65_534, 65_534)] * 2


# ---- lanes ---------------------------------------------------------------------------------------------


def lane(name, from_mm, to_mm):
    return {"name": name, "from_mm": from_mm, "to_mm": to_mm}


def test_lanes_are_sorted_from_the_operator_side():
    """The order in the file does not matter; lanes that touch do not overlap."""
    found = checked(camera(lanes=[lane("b", 600, 1200), lane("a", 0, 600)])).cameras[0].lanes
    assert [each.name for each in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("lanes", "words"),
    [
        ([lane("a", 0, 600), lane("b", 590, 1200)], "overlap between 590 and 600 mm"),
        ([lane("a", 0, 600), lane("a", 600, 1200)], "is used twice"),
        ([lane("a", 600, 0)], "exchange them"),
    ],
)
def test_lanes_that_cannot_be_are_refused(lanes, words):
    """The message says what to change."""
    assert any(words in str(problem) for problem in problems(camera(lanes=lanes)).values())


def test_lanes_need_places_across(tmp_path):
    """A lane that no defect could ever be in is refused, with all that is missing."""
    keys = {"name": "top", "source": "still.png", "lanes": [lane("a", 0, 600)]}
    raw = {"node": "n1", "cameras": [keys]}
    with pytest.raises(ConfigError) as caught:
        with_calibrations(parse(raw, origin="test", base=tmp_path, env={}))
    text = str(caught.value)
    assert all(word in text for word in ("calibrate scale", "direction", "operator_side", "across_at_mm"))
    keys |= {"scale": {"mm_per_px": 0.25}, "direction": "up", "operator_side": "left", "across_at_mm": 0.0}
    with_calibrations(parse(raw, origin="test", base=tmp_path, env={}))
