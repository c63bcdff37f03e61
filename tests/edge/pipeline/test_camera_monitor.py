"""The state of a camera over its life: signal, pauses, bad pictures, frame sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.inspection import Scene

from edge import config
from edge.camera.notices import CameraEnded, CameraLost
from edge.config.camera_calibration import CameraCalibration
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.orders import Pause, Reconfigure, Resume


def fit(scene: Scene, **made_px: tuple[int, int]) -> CameraSession:
    """Its camera with calibrated parts in use."""
    (session,) = scene.sessions
    camera = session.camera
    fitted = camera.with_calibration(CameraCalibration(made_px=made_px))
    session.settings = replace(session.settings, camera=fitted)
    return session


def test_lost_camera_is_reported_once_with_its_duration() -> None:
    """Several failed restarts are one loss; the return names how long there was no frame."""
    scene = Scene()
    scene.note(scene.opened())
    now = scene.clock.monotonic_ns()
    scene.note(CameraLost("top", now, "rtsp://admin:secret@cam/1 is silent"), CameraLost("top", now, "refused"))
    scene.clock.advance(4.0)
    scene.note(scene.opened())
    assert scene.kinds() == ["camera.lost", "camera.restored", "coverage.gap"]
    assert scene.events[2].detail is not None
    assert scene.events[2].detail["seconds"] == pytest.approx(4.0)
    assert scene.events[2].detail["cause"] == "no_signal"
    assert scene.events[2].detail["from"] < scene.events[2].detail["to"]
    assert [state["state"] for _, state in scene.states] == ["running", "no_signal", "no_signal", "running"]
    assert "secret" not in str(scene.states)
    report = scene.sessions[0].counters.account.report(scene.clock.monotonic_ns())
    assert report["no_signal_s"] == pytest.approx(4.0)


def test_lost_camera_closes_its_defects() -> None:
    """A defect that can no longer be followed is closed, so that each opening has its closing."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(1, 1, 1)
    scene.note(CameraEnded("top", scene.clock.monotonic_ns(), 3))
    assert scene.kinds() == ["defect.opened", "defect.closed", "camera.ended"]


def test_bad_picture_is_reported_after_three_frames() -> None:
    """One or two torn frames are no event; three are, and three good ones end it; open defects survive."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(1, 1, 2, 2, 1, 2, 2, 2, 2, 1, 1, 1, 0, 0, 0)
    assert scene.kinds() == ["defect.opened", "image.bad", "image.restored", "defect.closed"]


def test_good_frame_between_bad_ones_is_not_ok() -> None:
    """Between image.bad and image.restored no frame is ok; the frame that ends the fault is inspected again."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(2, 2, 2, 0, 2, 0, 0, 0, 0)
    frames = scene.sessions[0].counters.account.report(scene.clock.monotonic_ns())["frames"]
    assert (frames["bad_image"], frames["ok"]) == (7, 2)
    restored = scene.events[-1]
    assert restored.type == "image.restored"
    assert restored.detail is not None
    assert restored.detail["reason"] == "dark"
    assert restored.detail["seconds"] == pytest.approx(5 * 0.033, abs=0.02)


def test_frozen_picture_is_a_state_of_its_own() -> None:
    """A frozen camera is `frozen` in its state, any other bad picture `bad_image`, with the reason."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(3, 3, 3, 2, 2, 2, 0, 0, 0)
    states = [(state["state"], state["reason"]) for _, state in scene.states]
    assert states == [("running", None), ("frozen", "frozen"), ("bad_image", "dark"), ("running", None)]
    reasons = [(event.type, event.detail["reason"]) for event in scene.events if event.detail]
    assert reasons == [("image.bad", "frozen"), ("image.bad", "dark"), ("image.restored", "dark")]


def test_paused_camera_is_not_inspected_and_never_ok() -> None:
    """Its frames are dropped, its time is counted, its defects are closed, and the end reports a gap."""
    scene = Scene(report_s=5.0)
    scene.note(scene.opened())
    scene.play(0, 1, 1, 1)
    done = scene.order(Pause("top"))
    assert (done["state"], done["paused"]) == ("paused", True)
    assert [e.type for e in scene.events[-2:]] == ["defect.closed", "camera.paused"]
    scene.play(*[1] * 30, every_s=0.1)
    assert scene.order(Pause("top"))["paused"]
    assert scene.order(Resume("top"))["state"] == "running"
    details = {e.type: e.detail for e in scene.events[-2:]}
    assert details["camera.resumed"] == {"seconds": 3.0}
    gap = {key: details["coverage.gap"][key] for key in ("cause", "seconds", "frames")}
    assert gap == {"cause": "paused", "seconds": 3.0, "frames": {"dropped": 30}}
    scene.play(0, 0)
    scene.clock.advance(5)
    scene.loop.turn()
    message = scene.coverage[-1][1]
    assert message["frames"] == {"ok": 3, "defect": 3, "unsure": 0, "bad_image": 0, "late": 0, "dropped": 30}
    assert (message["paused_s"], message["paused_frames"]) == (3.0, 30)
    assert message["delivered"] == sum(message["frames"].values())
    gaps = [e.detail["cause"] for e in scene.events if e.type == "coverage.gap"]
    assert gaps == ["paused"]


def test_pause_for_a_time_ends_by_itself() -> None:
    """A camera that an operator forgot is inspected again."""
    scene = Scene()
    scene.note(scene.opened())
    scene.order(Pause("top", 2.0))
    scene.play(1, every_s=1.0)
    assert scene.states[-1][1]["state"] == "paused"
    scene.clock.advance(1.5)
    scene.loop.turn()
    assert scene.states[-1][1]["state"] == "running"
    assert scene.events[-1].type == "coverage.gap"


def test_camera_lost_in_a_pause_comes_back_paused() -> None:
    """A pause hides no loss, and a restart of the camera ends no pause."""
    scene = Scene()
    scene.note(scene.opened())
    scene.order(Pause("top"))
    scene.note(CameraLost("top", scene.clock.monotonic_ns(), "cable"))
    assert scene.states[-1][1]["state"] == "no_signal"
    scene.note(scene.opened())
    assert scene.states[-1][1]["state"] == "paused"
    assert "camera.restored" in [e.type for e in scene.events]


def test_pause_that_lasts_to_the_stop_is_reported() -> None:
    """A stop in a pause leaves no time unaccounted."""
    scene = Scene()
    scene.note(scene.opened())
    scene.order(Pause("top"))
    scene.clock.advance(3)
    scene.loop._finish()
    assert ("coverage.gap", "paused") in [(e.type, (e.detail or {}).get("cause")) for e in scene.events]


def test_state_shows_what_a_person_overruled_for_the_network_in_use() -> None:
    """A calibration for another network does not decide here, so neither does what was overruled for it."""
    scene = Scene()
    (session,) = scene.sessions
    overruled = {session.inspector.network: ("98 % are defective",), "b" * 64: ("another",)}
    camera = session.camera.with_calibration(CameraCalibration(overruled=overruled))
    session.settings = replace(session.settings, camera=camera)
    scene.play_sizes((8, 8))
    scene.clock.advance(10)
    scene.loop.turn()
    assert scene.states[-1][1]["calibration"] == {"used": [], "refused": [], "overruled": ["98 % are defective"]}


def test_reason_of_bad_pictures_is_in_the_log_and_in_the_report(caplog: pytest.LogCaptureFixture) -> None:
    """Where a person at the terminal looks: it must not be on MQTT alone."""
    caplog.set_level("INFO", "edge")
    scene = Scene()
    scene.play(2, 2, 2, 2)
    assert "camera top: its pictures are not inspected: dark" in caplog.text
    scene.clock.advance(10)
    scene.loop.turn()
    assert scene.reports[-1].bad_images == {"dark": 4}
    scene.play(0, 0, 0)
    assert "camera top: its pictures are inspected again" in caplog.text


def test_calibration_for_another_frame_size_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """At the first frame or later: one event, a log line with the command, and the state."""
    scene = Scene({"scale": config.Scale(mm_per_px=0.25)})
    session = fit(scene, scale=(8, 8))
    scene.play_sizes((8, 8), (8, 8))
    assert scene.kinds() == []
    assert session.ruler is not None
    scene.play_sizes((4, 4), (4, 4), (4, 4))
    assert session.ruler is None
    assert scene.kinds() == ["calibration.refused"]
    detail = scene.events[0].detail or {}
    assert (detail["part"], detail["made_px"], detail["frame_px"]) == ("scale", [8, 8], [4, 4])
    assert "camera top" in caplog.text
    assert "`defectd calibrate scale --camera top`" in caplog.text
    message = scene.states[-1][1]["calibration"]
    assert (message["used"], [part["part"] for part in message["refused"]]) == ([], ["scale"])
    scene.play_sizes((8, 8))
    assert session.ruler is not None
    scene.clock.advance(10)
    scene.loop.turn()
    assert scene.states[-1][1]["calibration"] == {"used": ["scale"], "refused": []}


def test_changing_frame_sizes_make_a_bounded_number_of_events() -> None:
    """A stream with another size in each frame makes no flood."""
    scene = Scene()
    fit(scene, flatfield=(8, 8))
    scene.play_sizes(*[(4 + n % 50, 4) for n in range(200)])
    assert scene.kinds().count("calibration.refused") == 16
    assert len(scene.cameras.released) == 200


def test_bad_picture_of_a_lost_camera_leaves_it_without_signal() -> None:
    """Frames that were waiting when the camera was lost change its state only after it is back."""
    scene = Scene()
    scene.note(scene.opened())
    scene.note(CameraLost("top", scene.clock.monotonic_ns(), "cable"))
    scene.play(2, 2, 2)
    assert scene.kinds()[-1] == "image.bad"
    assert scene.states[-1][1]["state"] == "no_signal"
    scene.note(scene.opened())
    assert (scene.states[-1][1]["state"], scene.states[-1][1]["reason"]) == ("bad_image", "dark")


def test_bad_picture_is_found_anew_after_a_reload() -> None:
    """New settings end the fault with its event; the check finds it again if it is still there."""
    scene = Scene()
    scene.note(scene.opened())
    scene.play(2, 2, 2)
    scene.order(Reconfigure(cameras={"top": scene.session().settings}))
    assert scene.kinds() == ["image.bad", "image.restored"]
    assert scene.states[-1][1]["state"] == "running"
    scene.play(2, 2, 2)
    assert scene.kinds() == ["image.bad", "image.restored", "image.bad"]
