"""Every error that one package raises for another, sorted by what the caller does about it.

DefectdError
 |- ConfigError        refuse to start: exit 78
 |- BundleError        refuse the model, keep the active one
 |- ImageError         skip this image; others can be inspected
 |- PayloadError       a message from outside is malformed: drop it, count it
 |- CalibrationError   the footage does not support a calibration: write nothing
 |   `- NeedlessCalibration   it would make nothing better: go on without it
 |- EvidenceError      a picture cannot be kept or read: store its event without it
 |- ReportError        a report cannot be made here: say why, inspection goes on
 |- CommandError       a command was not executed: reply with the reason
 |- CameraError        restart this camera
 |   `- EndOfRecording   a file or folder has ended: do not restart
 `- DeliveryError      keep the event, try again later
     |- OutboxError      on the disk
     `- BrokerError      on the network
"""

from __future__ import annotations

from dataclasses import dataclass


class DefectdError(Exception):
    """Base of all errors that defectd raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a configuration: the key, its value, the allowed values, and what to do."""

    key: str
    value: str
    allowed: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.value}: {self.allowed}. {self.remedy}"


class ConfigError(DefectdError):
    """The configuration cannot be used.  problems: all of them, not only the first."""

    def __init__(self, origin: str, problems: tuple[Problem, ...]) -> None:
        self.origin = origin
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{origin}: {count}", *(f"  {p}" for p in problems)]))


class BundleError(DefectdError):
    """A model bundle is incomplete, damaged or fails its self-test."""


class ImageError(DefectdError):
    """An image cannot be read, or cannot be inspected."""


class PayloadError(DefectdError):
    """A message from outside is malformed."""


class CalibrationError(DefectdError):
    """The footage does not support a calibration, or shows that it would not help."""


class NeedlessCalibration(CalibrationError):
    """The footage is good, and this calibration would make nothing better."""


class EvidenceError(DefectdError):
    """A picture cannot be kept, or is missing.  cause: one word, for counting."""

    def __init__(self, cause: str, reason: str) -> None:
        self.cause = cause
        super().__init__(reason)


class ReportError(DefectdError):
    """The report of a coil, or one of its files, cannot be made."""


class CommandError(DefectdError):
    """A command was refused, or could not be executed.  code: one word, for programs."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class CameraError(DefectdError):
    """A camera could not be opened, or stopped delivering."""


class EndOfRecording(CameraError):
    """A recording has ended."""


class DeliveryError(DefectdError):
    """An event could not be delivered now."""


class OutboxError(DeliveryError):
    """The outbox cannot be written or read."""


class BrokerError(DeliveryError):
    """The broker cannot be reached, or refused a message."""
