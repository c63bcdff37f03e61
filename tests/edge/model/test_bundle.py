"""The model bundle: reading it, and refusing a damaged one."""

import json
import zipfile

import numpy as np
import pytest
from fakes.bundles import card, write_bundle, zip_bundle
from fakes.networks import network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import BundleError
from edge.model import bundle
from edge.model.bundle import CARD, FP32, INT8, selftest_tiles

NETWORK = network()


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "bundle", NETWORK, card(NETWORK))


def refused(where):
    with pytest.raises(BundleError) as caught:
        bundle.load(where)
    return str(caught.value)


def test_directory_and_zip_give_the_same_bundle(folder, tmp_path):
    """Both forms have the same card and networks."""
    from_folder = bundle.load(folder)
    from_zip = bundle.load(zip_bundle(folder, tmp_path / "b.zip"))
    assert from_folder.card == from_zip.card
    assert from_folder.networks == from_zip.networks == {FP32: NETWORK}
    assert from_folder.sha256() == from_folder.card.files[FP32]
    assert not from_folder.card.has_good


def test_missing_bundle_is_refused_with_a_remedy(tmp_path):
    """The message names what the path should contain."""
    assert CARD in refused(tmp_path / "none")


@pytest.mark.parametrize("name", [CARD, FP32])
def test_missing_file_is_refused(folder, tmp_path, name):
    """A directory or zip without the card or the network is incomplete."""
    (folder / name).unlink()
    assert "incomplete" in refused(folder)
    assert "incomplete" in refused(zip_bundle(folder, tmp_path / "b.zip"))


def test_changed_network_is_refused(folder):
    """The hash finds a single changed byte."""
    (folder / FP32).write_bytes(NETWORK[:-1] + bytes([NETWORK[-1] ^ 1]))
    assert "damaged" in refused(folder)


@pytest.mark.parametrize(
    "name",
    ["../x.onnx", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "a\0b", "~", "-x", " x", "x\n", "C:x", "x" * 200],
)
def test_file_name_that_is_a_path_is_refused(folder, name):
    """`load` never opens a file outside the bundle."""
    files = {**card(NETWORK)["files"], name: "0" * 64}
    write_bundle(folder, NETWORK, card(NETWORK, files=files))
    assert "not a model card: files" in refused(folder)


CHANGES = [
    ("schema", "defectd.card/2"),
    ("name", 1),
    ("classes", []),
    ("classes", ["a"] * 6),
    ("classes", "scratches"),
    ("classes", ["only"]),
    ("tile_px", 0),
    ("tile_px", "wide"),
    ("input_px", -1),
    ("input_px", 100_000),
    ("outputs", {}),
    ("outputs", {"features": "x"}),
    ("outputs", {"logits": 1, "features": 2}),
    ("temperature", 0),
    ("temperature", float("nan")),
    ("temperature", float("inf")),
    ("sharpness", 0.1),
    ("sharpness", 5),
    ("sharpness", float("nan")),
    ("files", {}),
    ("files", {"other.onnx": "0" * 64}),
    ("files", {FP32: "abc"}),
    ("files", {FP32: None}),
    ("files", {f"n{i}.onnx": "0" * 64 for i in range(9)} | {FP32: "0" * 64}),
    ("preprocessing", {"resize": "nearest"}),
    ("unknown", 1),
    ("selftest", None),
    ("selftest", {"seed": 1, "tiles": 2, "logits": [[0] * 6]}),
    ("selftest", {"seed": 1, "tiles": 1, "logits": [[0] * 5]}),
    ("selftest", {"seed": 1, "tiles": 1, "logits": [[float("nan")] * 6]}),
    ("selftest", {"seed": 1, "tiles": 1, "logits": [[float("inf")] * 6]}),
    ("selftest", {"seed": 1, "tiles": 0, "logits": []}),
    ("selftest", {"seed": 1, "tiles": 1_000_000_000, "logits": []}),
    ("selftest", {"seed": 1, "tiles": 1, "logits": [[0] * 6], "tolerance": float("inf")}),
    ("selftest", {"seed": 1, "tiles": 1, "logits": [[0] * 6], "tolerance": 1e9}),
    ("selftest", {"seed": 1, "tiles": 1, "logits": [[0] * 6], "tolerance": 0}),
]


@pytest.mark.parametrize(("key", "value"), CHANGES, ids=lambda value: repr(value)[:40])
def test_card_with_a_wrong_value_is_refused(folder, key, value):
    """A self-test that proves nothing, a size that fills the memory, a wrong type."""
    write_bundle(folder, NETWORK, card(NETWORK, **{key: value}))
    assert f"{CARD} is not a model card" in refused(folder)


@pytest.mark.parametrize("key", sorted(set(card(NETWORK)) - {"schema"}))
def test_card_without_a_key_is_refused(folder, key):
    """Every key of the fake card is required; the message names it."""
    described = card(NETWORK)
    del described[key]
    write_bundle(folder, NETWORK, described)
    assert f"not a model card: {key}" in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", "[" * 100_000, '"\\ud800"', "NaN", "9" * 5000])
def test_card_that_is_not_json_of_a_card_is_refused(folder, text):
    """Half-written, empty and endless JSON."""
    write_bundle(folder, NETWORK, text)
    assert "not a model card" in refused(folder)


def test_card_that_is_not_text_is_refused(folder):
    """The bytes are not UTF-8."""
    (folder / CARD).write_bytes(b"\xff\xfe\xfa{}")
    assert "not a model card" in refused(folder)


@pytest.mark.parametrize("name", [CARD, FP32])
@pytest.mark.parametrize("form", ["directory", "zip"])
def test_file_that_unpacks_to_too_many_bytes_is_refused(folder, tmp_path, name, form):
    """`load` reads a zip bomb or a sparse file only up to its limit."""
    with (folder / name).open("wb") as file:
        file.truncate(64 << 20)
    where = folder if form == "directory" else zip_bundle(folder, tmp_path / "bomb.zip")
    assert "is larger than" in refused(where)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04", b"PK\x05\x06" + b"\0" * 18])
def test_file_that_is_not_a_zip_is_refused(tmp_path, content):
    """So are an empty file and a zip without members."""
    path = tmp_path / "b.zip"
    path.write_bytes(content)
    assert str(path) in refused(path)


def test_encrypted_zip_is_refused(folder, tmp_path):
    """The password cannot be configured, and `load` does not ask for it."""
    path = zip_bundle(folder, tmp_path / "b.zip", zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    at = 0
    while (at := raw.find(b"PK\x01\x02", at)) >= 0:
        raw[at + 8] |= 1  # the flag in the directory of the zip
        at += 4
    path.write_bytes(raw)
    assert "readable zip" in refused(path)


def test_zip_with_a_name_that_is_not_utf8_is_refused(folder, tmp_path):
    """The directory of the zip says UTF-8, the name is Latin-1: as some packers write it."""
    path = zip_bundle(folder, tmp_path / "b.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Prüfung.txt", "notes")
    path.write_bytes(path.read_bytes().replace("Prüfung".encode(), b"Pr\xfc_fung"))
    assert "readable zip" in refused(path)


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\x00", "scr\u202ehctab", "x" * 201])
def test_text_that_could_not_be_shown_is_refused(folder, text):
    """Names of models and classes go into events, logs and terminals."""
    for key in ("name", "version"):
        write_bundle(folder, NETWORK, card(NETWORK, **{key: text}))
        assert key in refused(folder)
    classes = (text, *card(NETWORK)["classes"][1:])
    write_bundle(folder, NETWORK, card(NETWORK, classes=classes))
    assert "classes" in refused(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_damaged_zip_is_read_or_refused(folder, tmp_path, data):
    """A truncated or changed zip gives the same bundle or a BundleError, and no other exception."""
    raw = bytearray(zip_bundle(folder, tmp_path / "b.zip").read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.zip"
    path.write_bytes(raw[: data.draw(st.integers(len(raw) // 2, len(raw)))])
    try:
        found = bundle.load(path)
    except BundleError:
        return
    assert found.networks == {FP32: NETWORK}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(sorted(card(NETWORK))),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_value_in_the_card_gives_a_bundle_or_a_refusal(folder, key, value):
    """No value of any key raises another error."""
    write_bundle(folder, NETWORK, card(NETWORK, **{key: value}))
    try:
        assert bundle.load(folder).networks
    except BundleError as error:
        assert str(error)  # noqa: PT017 (either outcome is right)


def test_selftest_tiles_depend_on_nothing_but_their_arguments():
    """The bytes are equal on every machine and in every version: cards rely on them."""
    tiles = selftest_tiles(7, 2, 16)
    assert tiles.shape == (2, 16, 16)
    assert tiles.dtype == np.uint8
    assert tiles[0, 0, :8].tolist() == [FIRST_BYTES[i] for i in range(8)]
    assert np.array_equal(selftest_tiles(7, 1, 16)[0], tiles[0])
    assert not np.array_equal(selftest_tiles(8, 1, 16)[0], tiles[0])


FIRST_BYTES = bytes.fromhex("8d73692e88890331")


def test_card_survives_its_json(folder):
    """A card that is dumped as JSON and read again is equal."""
    read = bundle.load(folder).card
    again = bundle.ModelCard.model_validate(json.loads(read.model_dump_json(by_alias=True)))
    assert again == read


# ---- more than one network -----------------------------------------------------------------------


def test_card_without_variants_applies_to_every_network():
    """Cards from before int8 still load; their self-test applies to any network."""
    old = bundle.ModelCard.model_validate(card(NETWORK))
    assert old.selftest_of(INT8) == old.selftest_of(FP32) == old.selftest
    assert old.temperature_of(INT8) == old.temperature


def test_variant_has_its_own_expectations_and_may_have_its_own_temperature():
    """int8 has other logits; its temperature is that of the card unless it has its own."""
    test = {"seed": 1, "tiles": 1, "logits": [[0.0] * 6], "tolerance": 0.05}
    files = {FP32: "0" * 64, INT8: "1" * 64}
    for temperature, expected in ((None, 1.5), (2.0, 2.0)):
        variants = {INT8: {"selftest": test, "temperature": temperature}}
        made = bundle.ModelCard.model_validate(card(NETWORK, files=files, variants=variants, temperature=1.5))
        assert made.selftest_of(INT8).tolerance == 0.05
        assert made.selftest_of(FP32) == made.selftest
        assert (made.temperature_of(FP32), made.temperature_of(INT8)) == (1.5, expected)


def test_variant_of_no_file_is_refused(tmp_path):
    """A card cannot describe a network that the bundle lacks, or give too few logits."""
    test = {"seed": 1, "tiles": 1, "logits": [[0.0] * 6]}
    broken = card(NETWORK, variants={INT8: {"selftest": test}})
    assert f"{INT8} is not in files" in refused(write_bundle(tmp_path / "a", NETWORK, broken))
    broken = card(NETWORK, variants={FP32: {"selftest": {**test, "tiles": 2}}})
    assert "number of rows" in refused(write_bundle(tmp_path / "b", NETWORK, broken))
