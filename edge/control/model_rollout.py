"""From one model to the next while the node runs: swapped in between two frames, watched, and rolled back if need be.

A new model is loaded, tested and warmed up beside the one that decides. It is on trial at first: a call that fails or
scores that are no numbers bring the predecessor back within the same frame, a share of unsure or missed frames that
rises brings it back at the next look. A trial goes on over restarts; a daemon that keeps dying in one goes back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from edge import config
from edge.config import tuning
from edge.control import model_validation
from edge.control.canary import Canary, Record
from edge.control.model_validation import ValidatedModel, validate
from edge.control.reload import ORDER_S, Node
from edge.control.requests import Model
from edge.control.startup import Prepared
from edge.errors import BundleError, CommandError
from edge.host.clock import Clock
from edge.host.redact import redact
from edge.model import bundle
from edge.model.download import download
from edge.model.store import CONFIGURED, ActiveModel, Store
from edge.model.variant import choose, gain_of
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.orders import OrderQueue, PromoteModel, Reconfigure

log = logging.getLogger(__name__)

MIB: Final = 1 << 20
SLOWER: Final = 1.1
"""So many times its predecessor's time a model may take before frames that are missed are put down to it."""


class ModelRollout:
    """`perform` and `use` are for any thread, `resume` and `look` for the daemon."""

    def __init__(
        self,
        node: Node,
        prepared: Prepared,
        orders: OrderQueue,
        sessions: Callable[[], Sequence[CameraSession]],
        clock: Clock,
    ) -> None:
        """stations: of this moment, for what they have counted."""
        self._node = node
        self._orders = orders
        self._sessions = sessions
        self._clock = clock
        self._store = Store(prepared.configured.state_dir)
        self._standing = prepared.standing
        self._current = ValidatedModel(prepared.bundle, prepared.classifier, 0.0)
        self._former = prepared.former
        self._passed_over = prepared.passed_over
        self._probation: Canary | None = None
        self._failure: str | None = None
        """Why the line went back; what else follows from it is done at the next look."""
        self._installing: threading.Thread | None = None

    # ---- from the daemon -------------------------------------------------------------------------------

    def resume(self) -> None:
        """At a start: tell what was not used, and go on with a trial.  The line runs already."""
        if self._passed_over:
            detail = {"from": None, "to": self._current.identity, "reason": self._passed_over[:500]}
            self._node.tell("model.rolled_back", detail)
        if self._standing.on_trial and self._former is not None:
            self._write(replace(self._standing, starts=self._standing.starts + 1))
            before = {name: Record(**counts) for name, counts in self._standing.before.items()}
            self._watch(before, {})
            self._orders.ask(self._order(self._current, self._former, lambda: None), ORDER_S)
        elif self._standing.on_trial:
            self._write(self._standing.trusted())  # there is nothing to go back to
        elif self._standing != self._store.standing(self._standing.configured):
            self._write(self._standing)

    def close(self) -> None:
        """At a proper end: this start counts for nothing."""
        if self._standing.on_trial:
            self._write(replace(self._standing, starts=0))

    def look(self) -> None:
        """Judge the model on trial; do what follows when the line went back by itself."""
        if not self._node.changing.acquire(blocking=False):
            return  # a change is being made: at the next look
        try:
            self._settle_failure()
            if self._probation is None:
                return
            records = self._records()
            judgement, reason = self._probation.judge(records, self._clock.monotonic_ns())
            if judgement == "missed" and not self._is_slower():
                log.warning("not the doing of the model on trial, which is as fast as the one before: %s", reason)
                self._probation.excuse(records)
            elif judgement in ("unsure", "missed"):
                self._back(reason, rejected=True)
            elif judgement == "good":
                self._orders.ask(PromoteModel(), ORDER_S)
                self._end_trial(self._standing.trusted())
                log.info("model %s has stood its trial", self._name(self._current))
        except CommandError as error:
            log.warning("the trial of the model goes on: %s", error)
        finally:
            self._node.changing.release()

    # ---- from anyone -----------------------------------------------------------------------------------

    def perform(self, request: Model) -> dict[str, Any]:
        """Carry out a command.  Raises CommandError or BundleError."""
        match request.action:
            case "install":
                return self._install(request.url or "")
            case "use":
                return self.use(self._store.find(request.digest or ""))
            case "rollback":
                with self._node.changing:
                    self._settle_failure()
                    return self._back("by a command", rejected=False)
            case _:
                return self.shown()

    def shown(self) -> dict[str, Any]:
        """What is installed, and how it stands."""
        standing = self._standing
        return {
            "model": self._node.origin.model,
            "current": standing.current,
            "previous": standing.previous,
            "on_trial": standing.on_trial,
            "rejected": dict(standing.rejected),
            "installed": [
                {"digest": s.digest, "name": s.name, "version": s.version, "bytes": s.size, "installed": s.installed}
                for s in self._store.list()
            ],
        }

    def use(self, digest: str) -> dict[str, Any]:
        """Let an installed bundle decide from the next frame on, on trial.  Raises BundleError, CommandError."""
        with self._node.changing:
            self._settle_failure()
            if digest == self._standing.current:
                return {"changed": False, "model": self._node.origin.model, "on_trial": self._standing.on_trial}
            try:
                settings = self._node.settings
                return self._swap(self._admitted(self._store.get(digest), settings))
            except (BundleError, CommandError) as error:
                self._tell_refused(digest, error)
                raise

    def _swap(self, fresh: ValidatedModel) -> dict[str, Any]:
        former, canary_s = self._current, self._node.settings.model.canary_s
        at = self._records()
        before = self._standing
        standing = before.after(fresh.bundle.digest, {name: record.as_json() for name, record in at.items()})
        self._store.write(standing)  # first: a model that takes the daemon down with it is on trial already
        detail = {"from": self._node.origin.model, "to": fresh.identity, "canary_s": canary_s, "reason": "installed"}

        def then() -> None:
            self._node.decide_by(fresh.classifier, fresh.identity, former.classifier)
            self._node.tell("model.changed", detail)

        self._failure = None
        try:
            self._orders.ask(self._order(fresh, former, then), ORDER_S)
        except CommandError:
            self._write(before)
            raise
        self._current, self._former, self._standing = fresh, former, standing
        self._watch(at, at)
        self._node.announce()
        model = self._node.settings.model
        deleted = self._store.prune(keep=model.keep, keep_bytes=model.keep_mb * MIB, standing=standing)
        log.info("model %s decides, on trial for %g s%s", self._name(fresh), canary_s, _told(deleted))
        return {"changed": True, **detail, "frame_ms": round(fresh.frame_ms, 3)}

    def _order(self, fresh: ValidatedModel, former: ValidatedModel | None, then: Callable[[], None]) -> Reconfigure:
        if former is None:
            return Reconfigure(classifier=fresh.classifier, on_change=then)

        def on_failure(reason: str) -> None:
            """By the line, within the frame that failed."""
            self._node.decide_by(former.classifier, former.identity, None)
            self._node.tell(
                "model.rolled_back", {"from": fresh.identity, "to": former.identity, "reason": reason[:500]}
            )
            self._failure = reason

        return Reconfigure(
            classifier=fresh.classifier, previous=former.classifier, on_fall_back=on_failure, on_change=then
        )

    def _back(self, reason: str, *, rejected: bool) -> dict[str, Any]:
        """Let the predecessor decide again.  Raises CommandError, BundleError."""
        standing = self._standing
        if standing.current == CONFIGURED:
            raise CommandError("failed", "the model of the configuration is in use: there is none to go back to")
        after = standing.back(reason if rejected else None)
        former = self._former or self._loaded(after.current)
        detail = {"from": self._current.identity, "to": former.identity, "reason": reason[:500]}

        def then() -> None:
            self._node.decide_by(former.classifier, former.identity, None)
            self._node.tell("model.rolled_back", detail)

        self._orders.ask(self._order(former, None, then), ORDER_S)
        log.log(logging.ERROR if rejected else logging.INFO, "back to model %s: %s", self._name(former), reason)
        self._current = former
        self._end_trial(after)
        self._node.announce()
        return {"changed": True, **detail}

    def _loaded(self, which: str) -> ValidatedModel:
        settings = self._node.settings
        found = bundle.load(settings.model.bundle) if which == CONFIGURED else self._store.get(which)
        return self._admitted(found, settings)

    def _admitted(self, found: bundle.Bundle, settings: config.Config) -> ValidatedModel:
        model = tuning.fitted(settings.model, found.digest, settings.state_dir)
        return validate(found, model, settings.active_cameras, self._clock)

    # ---- the trial -------------------------------------------------------------------------------------

    def _is_slower(self) -> bool:
        """Than its predecessor, both timed here and now: a box that has become busy is no fault of the model."""
        if self._former is None:
            return True
        return gain_of(self._former.classifier, self._current.classifier, self._clock) * SLOWER < 1

    def _records(self) -> dict[str, Record]:
        return {session.camera.name: Record.of(session) for session in self._sessions()}

    def _watch(self, before: dict[str, Record], at: dict[str, Record]) -> None:
        canary_s = self._node.settings.model.canary_s
        self._probation = Canary(before, at, self._clock.monotonic_ns(), canary_s)

    def _end_trial(self, standing: ActiveModel) -> None:
        self._probation, self._former, self._node.former = None, None, None
        self._write(standing)

    def _settle_failure(self) -> None:
        """The line has gone back to the predecessor: everyone else follows."""
        reason, self._failure = self._failure, None
        if reason is None:
            return
        assert self._former is not None
        self._current = self._former
        self._end_trial(self._standing.back(reason))
        self._node.announce()

    def _write(self, standing: ActiveModel) -> None:
        """As well as the disk lets us: what decides now decides all the same."""
        self._standing = standing
        try:
            self._store.write(standing)
        except BundleError as error:
            log.error("which model decides may be forgotten at the next start: %s", error)  # noqa: TRY400 (all is said)

    # ---- from the network ------------------------------------------------------------------------------

    def _install(self, url: str) -> dict[str, Any]:
        """Begin to fetch, check and use a bundle; how it ends is told by an event.  Raises CommandError."""
        with self._node.changing:
            if self._installing is not None and self._installing.is_alive():
                raise CommandError("busy", "a model is being installed")
            self._installing = threading.Thread(target=self._fetch_and_use, args=(url,), name="model", daemon=True)
            self._installing.start()
        return {"started": True}

    def _fetch_and_use(self, url: str) -> None:
        model = self._node.settings.model
        try:
            digest = install(url, model, self._store, self._clock)
        except BundleError as error:
            self._tell_refused(url, error)
            return
        try:
            self.use(digest)
        except (BundleError, CommandError):
            pass  # told by an event
        except Exception:
            log.exception("a model could not be used")

    def _tell_refused(self, what: str, error: BundleError | CommandError) -> None:
        reason = redact(str(error))[:500]
        log.error("model %s is refused, nothing was changed: %s", redact(what)[:200], reason)
        self._node.tell("model.refused", {"bundle": redact(what)[:200], "reason": reason})

    @staticmethod
    def _name(model: ValidatedModel) -> str:
        return f"{model.bundle.card.name} {model.bundle.card.version}"


def install(where: str, model: config.Model, store: Store, clock: Clock, *, allow_unsigned: bool = False) -> str:
    """Fetch a bundle if it is a URL, look who signed it, test it, keep it; its digest.  Raises BundleError."""
    with store.workplace() as work:
        place = where
        if "://" in where:
            place = str(work / "bundle.zip")
            download(where, work / "bundle.zip", clock)
        try:
            loaded, signer = model_validation.load(place, model, allow_unsigned=allow_unsigned)
        except BundleError as error:
            raise BundleError(str(error).replace(place, redact(where), 1)) from error
        choose(loaded, model, clock)
        return store.put(replace(loaded, origin=redact(where)), signer, clock)


def _told(deleted: Sequence[str]) -> str:
    return f"; old bundles deleted: {', '.join(digest[:12] for digest in deleted)}" if deleted else ""
