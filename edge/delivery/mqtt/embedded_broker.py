"""A broker inside the process, for demos and for machines without one: MQTT 3.1.1, on this machine only."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any, Final

from edge.errors import ConfigError, Problem

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 10.0


class EmbeddedBroker:
    """amqtt on an event loop in the thread `broker`.  It holds everything in memory: nothing survives it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self._port}"

    def start(self) -> None:
        """Returns when the broker listens.  Raises ConfigError if amqtt is missing or the port is taken."""
        try:
            import amqtt.broker  # noqa: F401, PLC0415 (an extra, and slow to import)
        except ImportError as error:
            remedy = "pip install 'defectd[demo]'"
            raise self._refusal("needs the package amqtt, which is not installed", remedy) from error
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self._port))
            except OSError as error:
                raise self._refusal(
                    f"port {self._port} cannot be used ({error.strerror})",
                    f"use {self.url} for the broker that runs there, or embedded:OTHERPORT for another port",
                ) from error
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S) or self._failure is not None:
            reason = f"the embedded broker did not start: {self._failure}"
            raise self._refusal(reason, f"use {self.url}") from self._failure
        log.debug("the embedded broker listens at %s", self.url)

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Always safe.  False if the broker did not end in time."""
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and self._thread.is_alive():
            try:
                loop.call_soon_threadsafe(stopping.set)
            except RuntimeError:
                pass  # its loop has just ended
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _refusal(self, allowed: str, remedy: str) -> ConfigError:
        return ConfigError("mqtt", (Problem("mqtt.broker", f"embedded:{self._port}", allowed, remedy),))

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._ready.is_set():
                log.exception("the embedded broker has ended")
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from amqtt.broker import Broker  # noqa: PLC0415

        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # amqtt logs each client that leaves as an error
        self._loop = asyncio.get_running_loop()
        # Mostly clients that left before their answer was sent.
        self._loop.set_exception_handler(lambda _, error: log.debug("the embedded broker: %s", error.get("message")))
        self._stopping = asyncio.Event()
        settings: dict[str, Any] = {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{self._port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
        broker = Broker(settings)
        await broker.start()
        self._ready.set()
        try:
            await self._stopping.wait()
        finally:
            await broker.shutdown()
            await self._close_left_overs()

    async def _close_left_overs(self) -> None:
        """Close what amqtt leaves open: connections without a session, and those whose client has just left."""
        assert self._loop is not None
        for transport in list(getattr(self._loop, "_transports", {}).values()):
            transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            _, busy = await asyncio.wait(tasks, timeout=0.2)
            for task in busy:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
