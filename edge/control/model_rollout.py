"""From one model to the next while the node runs: swapped between two frames, watched, and rolled back if need be.

A new model is loaded, tested and warmed up beside the one that decides, and then decides as a canary. A call that fails
or scores that are not numbers bring the previous model back within the same frame; rising shares of unsure or missed
frames bring it back at the next check. A canary stays one over restarts; if the daemon keeps dying with it, the node
goes back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from edge import config
from edge.control import model_validation
from edge.control.canary import Canary, Record
from edge.control.effective_config import load_named
from edge.control.loaded_model import LoadedModel
from edge.control.model_validation import validate
from edge.control.reload import ORDER_S, Node
from edge.control.requests import Model
from edge.control.startup import Prepared
from edge.errors import BundleError, CommandError
from edge.host.clock import Clock
from edge.host.redact import redact
from edge.host.text import one_line
from edge.host.worker import Worker
from edge.model.download import download
from edge.model.hub import BUNDLE_FILE, SCHEME, Repository
from edge.model.store import CONFIGURED, ActiveModel, Store
from edge.model.variant import choose, gain_of
from edge.pipeline.camera_session import CameraSession
from edge.pipeline.orders import OrderQueue, PromoteModel, Reconfigure

log = logging.getLogger(__name__)

MIB: Final = 1 << 20
MAX_SLOWDOWN: Final = 1.1
"""Missed frames count against a model only if it takes over 1.1 times as long as the previous one."""


class ModelRollout:
    """`perform` and `use` are for any thread; `resume`, `check` and `close` for the daemon's."""

    def __init__(
        self,
        node: Node,
        prepared: Prepared,
        orders: OrderQueue,
        sessions: Callable[[], Sequence[CameraSession]],
        clock: Clock,
        *,
        max_slowdown: float = MAX_SLOWDOWN,
    ) -> None:
        """sessions: those of this moment, for what they have counted.

        max_slowdown: missed frames count against a model that takes this many times as long as the previous one.
        """
        self._node = node
        self._orders = orders
        self._sessions = sessions
        self._clock = clock
        self._max_slowdown = max_slowdown
        self._store = Store(prepared.effective.configured.state_dir)
        self._active = prepared.effective.active_model
        self._current = prepared.effective.model
        self._previous = prepared.previous
        self._passed_over = prepared.effective.passed_over
        self._canary: Canary | None = None
        self._failure: str | None = None
        """Why the inspection loop went back to the previous model; `_follow_failure` does the rest."""
        self._installing: Worker | None = None

    # ---- called by the daemon --------------------------------------------------------------------------

    def resume(self) -> None:
        """At a start: report a model that was passed over, and watch a canary again.  The inspection loop runs."""
        if self._passed_over:
            detail = {"from": None, "to": self._current.identity, "reason": self._passed_over[:500]}
            self._node.report("model.rolled_back", detail)
        if self._active.is_canary and self._previous is not None:
            self._save(replace(self._active, unclean_starts=self._active.unclean_starts + 1))
            before = {name: Record(**counts) for name, counts in self._active.baseline.items()}
            self._watch(before, {})
            self._orders.ask(self._order(self._current, self._previous, lambda: None), ORDER_S)
        elif self._active.is_canary:
            self._save(self._active.promoted())  # there is nothing to go back to
        elif self._active != self._store.active(self._active.configured):
            self._save(self._active)

    def close(self) -> None:
        """At a proper end: this start does not count against the canary."""
        if self._active.is_canary:
            self._save(replace(self._active, unclean_starts=0))

    @property
    def trial(self) -> dict[str, Any] | None:
        """The canary's watch: how far it is, what comes back when it fails, and how both do; None without one."""
        canary, previous = self._canary, self._previous
        if canary is None or previous is None:
            return None
        left_s = canary.left_s(self._clock.monotonic_ns())
        return {
            "version": self._current.identity["version"],
            "left_s": round(left_s, 1),
            "canary_s": canary.canary_s,
            "share": 1.0 if canary.canary_s <= 0 else round(1 - left_s / canary.canary_s, 4),
            "previous": previous.identity,
            "cameras": canary.comparison(self._records()),
        }

    def check(self) -> None:
        """Compare the canary with the previous model; follow when the inspection loop went back by itself."""
        with self._node.changing(wait=False) as is_ours:
            if not is_ours:
                return  # another change runs: at the next check
            try:
                self._follow_failure()
                if self._canary is not None:
                    self._judge(self._canary)
            except CommandError as error:
                log.warning("the canary model stays one: %s", error)

    def _judge(self, canary: Canary) -> None:
        records = self._records()
        judgement, reason = canary.judge(records, self._clock.monotonic_ns())
        if judgement == "missed" and not self._is_slower():
            log.warning("the canary model is as fast as the previous one, so it did not cause this: %s", reason)
            canary.excuse(records)
        elif judgement in ("unsure", "missed"):
            self._roll_back(reason, rejected=True)
        elif judgement == "good":
            self._orders.ask(PromoteModel(), ORDER_S)
            self._end_canary(self._active.promoted())
            log.info("model %s is promoted", self._current.title)

    # ---- called from any thread ------------------------------------------------------------------------

    def perform(self, request: Model) -> dict[str, Any]:
        """Carry out a command.  Raises CommandError or BundleError."""
        match request.action:
            case "install":
                return self._install(request.url or "")
            case "use":
                return self.use(self._store.find(request.digest or ""))
            case "rollback":
                with self._node.changing():
                    self._follow_failure()
                    return self._roll_back("by a command", rejected=False)
            case _:
                return self.status()

    def status(self) -> dict[str, Any]:
        """The model that decides, and all that are installed."""
        active = self._active
        return {
            "model": self._node.origin.model,
            "current": active.current,
            "previous": active.previous,
            "on_trial": active.is_canary,
            "rejected": dict(active.rejected),
            "installed": [
                {"digest": s.digest, "name": s.name, "version": s.version, "bytes": s.size, "installed": s.installed}
                for s in self._store.list()
            ],
        }

    def use(self, digest: str) -> dict[str, Any]:
        """Let an installed bundle decide from the next frame on, as a canary.  Raises BundleError, CommandError."""
        with self._node.changing():
            self._follow_failure()
            if digest == self._active.current:
                return {"changed": False, "model": self._node.origin.model, "on_trial": self._active.is_canary}
            try:
                return self._swap(*self._validated(digest))
            except (BundleError, CommandError) as error:
                self._report_refused(digest, error)
                raise

    def _swap(self, fresh: LoadedModel, frame_ms: float) -> dict[str, Any]:
        previous, canary_s = self._current, self._node.settings.model.canary_s
        at = self._records()
        before = self._active
        active = before.with_canary(fresh.bundle.digest, {name: record.as_json() for name, record in at.items()})
        self._store.write(active)  # first: a model that takes the daemon down with it is known as a canary already
        detail = {"from": self._node.origin.model, "to": fresh.identity, "canary_s": canary_s, "reason": "installed"}

        def then() -> None:
            self._node.use_model(fresh, previous)
            self._node.report("model.changed", detail)

        self._failure = None
        try:
            self._orders.ask(self._order(fresh, previous, then), ORDER_S)
        except CommandError:
            self._save(before)
            raise
        self._current, self._previous, self._active = fresh, previous, active
        self._watch(at, at)
        self._node.announce()
        model = self._node.settings.model
        deleted = self._store.prune(keep=model.keep, keep_bytes=model.keep_mb * MIB, active=active)
        log.info("model %s decides, as a canary for %g s%s", fresh.title, canary_s, _deleted(deleted))
        return {"changed": True, **detail, "frame_ms": round(frame_ms, 3)}

    def _order(self, fresh: LoadedModel, previous: LoadedModel | None, then: Callable[[], None]) -> Reconfigure:
        if previous is None:
            return Reconfigure(classifier=fresh.classifier, on_change=then)

        def on_failure(reason: str) -> None:
            """Runs on the inspection loop, within the frame at which the canary failed."""
            self._node.use_model(previous, None)
            self._node.report(
                "model.rolled_back", {"from": fresh.identity, "to": previous.identity, "reason": reason[:500]}
            )
            self._failure = reason

        return Reconfigure(
            classifier=fresh.classifier, previous=previous.classifier, on_fall_back=on_failure, on_change=then
        )

    def _roll_back(self, reason: str, *, rejected: bool) -> dict[str, Any]:
        """Let the previous model decide again.  Raises CommandError, BundleError."""
        active = self._active
        if active.current == CONFIGURED:
            raise CommandError("failed", "the model of the configuration is in use: there is none to go back to")
        after = active.rolled_back(reason if rejected else None)
        previous = self._previous or self._validated(after.current)[0]
        detail = {"from": self._current.identity, "to": previous.identity, "reason": reason[:500]}

        def then() -> None:
            self._node.use_model(previous, None)
            self._node.report("model.rolled_back", detail)

        self._orders.ask(self._order(previous, None, then), ORDER_S)
        log.log(logging.ERROR if rejected else logging.INFO, "back to model %s: %s", previous.title, reason)
        self._current = previous
        self._end_canary(after)
        self._node.announce()
        return {"changed": True, **detail}

    def _validated(self, which: str) -> tuple[LoadedModel, float]:
        """An installed or the configured model, and the time it takes, ms.  Raises BundleError."""
        settings = self._node.settings
        model = load_named(settings, which, self._clock)
        return model, validate(model, settings.active_cameras, self._clock)

    # ---- the canary ------------------------------------------------------------------------------------

    def _is_slower(self) -> bool:
        """Whether the canary is slower than the previous model, both timed now: a busy machine slows both."""
        if self._previous is None:
            return True
        return gain_of(self._previous.classifier, self._current.classifier, self._clock) * self._max_slowdown < 1

    def _records(self) -> dict[str, Record]:
        return {session.camera.name: Record.of(session) for session in self._sessions()}

    def _watch(self, before: dict[str, Record], at: dict[str, Record]) -> None:
        canary_s = self._node.settings.model.canary_s
        self._canary = Canary(before, at, self._clock.monotonic_ns(), canary_s)

    def _end_canary(self, active: ActiveModel) -> None:
        self._canary = self._previous = None
        self._node.drop_previous_model()
        self._save(active)

    def _follow_failure(self) -> None:
        """The inspection loop has gone back to the previous model: the store and the status message follow."""
        reason, self._failure = self._failure, None
        if reason is None:
            return
        assert self._previous is not None
        self._current = self._previous
        self._end_canary(self._active.rolled_back(reason))
        self._node.announce()

    def _save(self, active: ActiveModel) -> None:
        """Keep over restarts which model decides.  A disk that refuses it changes nothing for this run."""
        self._active = active
        try:
            self._store.write(active)
        except BundleError as error:
            log.error("the next start may use a different model: %s", error)  # noqa: TRY400 (the message says it all)

    # ---- installation over the network -----------------------------------------------------------------

    def _install(self, url: str) -> dict[str, Any]:
        """Start to fetch, check and use a bundle; an event reports the outcome.  Raises CommandError."""
        with self._node.changing():
            if self._installing is not None and self._installing.alive:
                raise CommandError("busy", "a model is being installed")
            self._installing = Worker("model", partial(self._fetch_and_use, url), self._clock)
            try:
                self._installing.start()
            except RuntimeError as error:
                raise CommandError("busy", f"no model can be installed: {error}") from error
        return {"started": True}

    def _fetch_and_use(self, url: str) -> None:
        model = self._node.settings.model
        try:
            digest = install(url, model, self._store, self._clock)
        except BundleError as error:
            self._report_refused(url, error)
            return
        except Exception as error:  # the top of a thread: an answer was promised
            log.exception("a model could not be installed")
            name = type(error).__name__
            self._report_refused(url, CommandError("failed", f"an error in defectd ({name}): see its log"))
            return
        try:
            self.use(digest)
        except (BundleError, CommandError):
            pass  # `use` reported it

    def _report_refused(self, what: str, error: BundleError | CommandError) -> None:
        reason, name = one_line(redact(str(error)), 500), one_line(redact(what), 200)
        log.error("model %s is refused, nothing was changed: %s", name, reason)
        self._node.report("model.refused", {"bundle": name, "reason": reason})


def install(where: str, model: config.Model, store: Store, clock: Clock, *, allow_unsigned: bool = False) -> str:
    """Fetch a bundle from a URL or the hub, check its signature, test it and store it.  Returns its digest.

    Raises BundleError.
    """
    with store.workplace() as work:
        place, shown = where, redact(where)
        if where.startswith(SCHEME):
            repository = Repository.of(where)
            place, shown = str(repository.fetch(BUNDLE_FILE, work / "bundle.zip", clock)), where
        elif "://" in where:
            place = str(work / "bundle.zip")
            download(where, work / "bundle.zip", clock)
        try:
            loaded, signer = model_validation.load(place, model, allow_unsigned=allow_unsigned)
        except BundleError as error:
            raise BundleError(str(error).replace(place, shown, 1)) from error
        choose(loaded, model, clock)
        return store.put(replace(loaded, origin=shown), signer, clock)


def _deleted(digests: Sequence[str]) -> str:
    return f"; old bundles deleted: {', '.join(digest[:12] for digest in digests)}" if digests else ""
