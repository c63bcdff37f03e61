"""The fields of a command: one model for each verb (`docs/commands.md`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from edge.config import Name, Share, Verb
from edge.evidence.archive import Kind
from edge.host.text import one_line

MAX_ID: Final = 128
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)

Id = Annotated[str, Field(max_length=MAX_ID)] | Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


MAX_WORDS: Final = 300
"""Characters of what a person gives as a reason."""


def _one_line_of_text(text: str) -> str:
    if one_line(text) != text or text.strip() != text:
        raise ValueError("should be one line of printable characters")
    return text


Words = Annotated[str, Field(min_length=1, max_length=MAX_WORDS), AfterValidator(_one_line_of_text)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Actor(BaseModel):
    """The person behind a command of this machine, as the page has checked it.  via: how, for example an address."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_one_line_of_text)]
    role: Literal["viewer", "operator", "engineer"]
    via: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_one_line_of_text)] | None = None


class Request(BaseModel):
    """The fields of every command.  id: repeated in the reply, for clients without correlation data."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)

    id: Id | None = None


class Ping(Request):
    """Answer, as a sign of life."""


class State(Request):
    """The state of the node, its cameras and its delivery."""


class Snapshot(Request):
    """The next picture of a camera."""

    camera: Name
    quality: int = Field(80, ge=10, le=95)
    longest_px: int = Field(1600, ge=64, le=4096)


class Pause(Request):
    """Stop inspecting a camera, for a time or until `resume`."""

    camera: Name
    for_s: float | None = Field(None, gt=0.0, le=86_400.0)
    reason: Words | None = None


class Resume(Request):
    """Inspect a camera again."""

    camera: Name


class Set(Request):
    """Thresholds of a camera; null goes back to the configuration."""

    camera: Name
    confidence: Share | None = None
    unsure: Share | None = None
    classes: Annotated[dict[str, Share], Field(max_length=64)] | None = None

    @model_validator(mode="after")
    def _sets_something(self) -> Set:
        if not self.wanted:
            raise ValueError("give confidence, unsure or classes")
        return self

    @property
    def wanted(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("confidence", "unsure", "classes") if key in self.model_fields_set}


class Evidence(Request):
    """A picture by the path that an event carries; without a path, a list of the pictures, the newest first."""

    path: str | None = Field(None, max_length=200)
    camera: Name | None = None
    kind: Kind | None = None
    limit: int = Field(20, ge=1, le=50)


class Reload(Request):
    """Read the configuration again."""


class DeadLetters(Request):
    """List, send again or delete events that the broker refused."""

    action: Literal["list", "retry", "discard"] = "list"
    seqs: tuple[int, ...] | None = Field(None, min_length=1, max_length=1000)
    all: bool = False
    limit: int = Field(20, ge=1, le=50)

    @field_validator("seqs", mode="before")
    @classmethod
    def _a_list_of_numbers(cls, value: Any) -> Any:
        if isinstance(value, list) and all(type(n) is int and 0 < n < 1 << 63 for n in value):
            return tuple(value)
        if value is not None:
            raise ValueError("should be a list of seq numbers")
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> DeadLetters:
        if self.action != "list" and (self.seqs is None) != self.all:
            raise ValueError("give seqs, or all: true")
        return self


class Model(Request):
    """List the installed models, install one, use another one, or roll back to the previous one."""

    action: Literal["list", "install", "use", "rollback"] = "list"
    url: str | None = Field(None, max_length=1000, pattern=r"^(https|hf)://[!-~]+$")
    digest: str | None = Field(None, pattern=r"^[0-9a-f]{6,64}$")

    @model_validator(mode="after")
    def _is_complete(self) -> Model:
        if (self.action == "install") != (self.url is not None) or (self.action == "use") != (self.digest is not None):
            raise ValueError("install takes a url, use takes a digest, list and rollback take nothing")
        return self


CoilName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$",
    ),
]
Person = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$")]


class Coil(Request):
    """Show the coil that runs, start one at 0 m, or stop it."""

    action: Literal["show", "start", "stop"] = "show"
    coil: CoilName | None = None
    lane: Name | None = None

    @field_validator("coil")
    @classmethod
    def _is_printable(cls, name: str | None) -> str | None:
        if name is not None and one_line(name) != name:
            raise ValueError("should be one line of printable characters")
        return name

    @model_validator(mode="after")
    def _is_complete(self) -> Coil:
        if (self.action == "start") != (self.coil is not None):
            raise ValueError("start takes a coil, its name; show and stop take none")
        if self.action == "show" and self.lane is not None:
            raise ValueError("show takes nothing: it shows all lanes")
        return self


class CoilRelease(Request):
    """Release a coil that has ended, with the grade that it has, or with another one and a reason."""

    coil: CoilName
    by: Person
    grade: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=500)] | None = None

    @field_validator("coil", "by", "grade", "reason")
    @classmethod
    def _is_printable(cls, text: str | None) -> str | None:
        if text is not None and one_line(text) != text:
            raise ValueError("should be one line of printable characters")
        return text


class Acted(Request):
    """Only on this machine: record that a person has changed something without a command, such as a calibration.

    before_sha256, after_sha256: of the file that was changed, where there is one.
    """

    action: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")
    camera: Name | None = None
    before_sha256: Sha256 | None = None
    after_sha256: Sha256 | None = None
    reason: Words | None = None


REQUESTS: Final[Mapping[str, type[Request]]] = {
    "ping": Ping,
    "state": State,
    "snapshot": Snapshot,
    "pause": Pause,
    "resume": Resume,
    "set": Set,
    "reload": Reload,
    "dead-letters": DeadLetters,
    "evidence": Evidence,
    "model": Model,
    "coil": Coil,
    "coil-release": CoilRelease,
}
LOCAL_REQUESTS: Final[Mapping[str, type[Request]]] = {**REQUESTS, "acted": Acted}
"""Those of the unix socket."""
