"""Every error that crosses a wall, sorted by what the caller does about it.

DefectdError
 |- ConfigError        refuse to start: exit 78
 |- BundleError        refuse the model, keep the one in use
 |- ImageError         this one image cannot be inspected; the others can
 |- PayloadError       a message from outside makes no sense: drop it, count it
 |- CalibrationError   the footage does not support a calibration: nothing was written
 |- EvidenceError      a picture cannot be kept or shown; its event goes on without
 |- CommandError       a command is not carried out: answer with the reason
 |- CameraError        restart this camera
 |   `- EndOfRecording   a file or folder came to its end; do not restart
 `- DeliveryError      keep the event, try again later
     |- OutboxError      the disk side
     `- BrokerError      the network side
"""

from __future__ import annotations

from dataclasses import dataclass


class DefectdError(Exception):
    """Base of all errors that defectd raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where, what stands there, and what to do."""

    key: str
    value: str
    allowed: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.value}: {self.allowed}. {self.remedy}"


class ConfigError(DefectdError):
    """The configuration cannot be used; carries every problem found, not only the first."""

    def __init__(self, origin: str, problems: tuple[Problem, ...]) -> None:
        self.origin = origin
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{origin}: {count}", *(f"  {p}" for p in problems)]))


class BundleError(DefectdError):
    """A model bundle is incomplete, damaged or fails its self-test."""


class ImageError(DefectdError):
    """An image cannot be read or is not fit for inspection."""


class PayloadError(DefectdError):
    """A message from outside cannot be read."""


class CalibrationError(DefectdError):
    """The footage does not support a calibration, or says that it would not help."""


class EvidenceError(DefectdError):
    """A picture cannot be kept, or is not there.  cause: one word for counting."""

    def __init__(self, cause: str, reason: str) -> None:
        self.cause = cause
        super().__init__(reason)


class CommandError(DefectdError):
    """A command is refused, or could not be carried out.  code: one word for programs."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class CameraError(DefectdError):
    """A camera could not be opened or stopped delivering."""


class EndOfRecording(CameraError):
    """A recording was played to its end."""


class DeliveryError(DefectdError):
    """An event could not be handed on now."""


class OutboxError(DeliveryError):
    """The event store cannot be written or read."""


class BrokerError(DeliveryError):
    """The broker cannot be reached, or refused what was sent."""
