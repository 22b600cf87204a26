"""One frozen, documented, validated `Settings`: `jetray.toml`, overridden by the environment.

Every field says what it is, in which unit; `jetray config --init` writes those words into a file to start from, and
`load` names the field in the error that refuses it.

From the environment come `NATS_URL`, `RAY_ADDRESS` and `JETRAY_<SECTION>_<FIELD>`, as `JETRAY_GATEWAY_ACK_WAIT_S=30`.
"""

from __future__ import annotations

import os
import platform
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.subjects import PLANNING
from contracts.tokens import as_token, is_token
from workers.kinds.deliberation.config import Council, CouncilOverrides, Providers
from workers.kinds.plan import PlanConfig

__all__ = ["FILE", "BadSettings", "Settings", "load"]

FILE: Final = "jetray.toml"

Seconds = Annotated[float, Meta(gt=0)]
Positive = Annotated[int, Meta(ge=1)]


class BadSettings(Exception):
    """A setting is wrong: one line that names it."""


def _doc(text: str, **bounds: Any) -> Meta:
    return Meta(description=text, **bounds)


class Nats(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the bus is."""

    url: Annotated[str, _doc("Server, or several of a cluster with commas. Environment: NATS_URL.")] = (
        "nats://127.0.0.1:4222"
    )
    credentials: Annotated[str | None, _doc("Path of a .creds file.")] = None
    inbox_prefix: Annotated[str, _doc("Prefix of the inboxes that this user may subscribe to.")] = "_INBOX"


class Ray(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where jobs run."""

    address: Annotated[
        str,
        _doc(
            "local embeds Ray; host:6379 joins a cluster; none runs jobs without Ray, one at a time. "
            "Environment: RAY_ADDRESS."
        ),
    ] = "local"


class Gateway(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this gateway works."""

    name: Annotated[str, _doc("A token of its own for each gateway; the host's name unless set.")] = ""
    ack_wait_s: Annotated[Seconds, _doc("The lease on a message, in seconds; renewed three times as often.")] = 60.0
    grace_s: Annotated[Seconds, _doc("What a job gets to end by itself when it is stopped, in seconds.")] = 30.0
    deadline_s: Annotated[Seconds, _doc("A job's time from its first start, in seconds; kinds may ask for less.")] = 600.0
    batch_deadline_s: Annotated[Seconds, _doc("The same for batches.")] = 86_400.0
    open_batches: Annotated[Positive, _doc("Batches that one gateway holds at once.")] = 64


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an input may be at most."""

    input_bytes: Annotated[Positive, _doc("Bytes; larger ones go by reference.")] = 1024 * 1024
    input_depth: Annotated[Positive, _doc("Levels of nesting.")] = 64


class Retry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a job is tried again."""

    max_attempts: Annotated[Positive, _doc("Attempts that a job's own errors may end.")] = 3
    max_lost: Annotated[int, _doc("Attempts that may be lost with what ran them.", ge=0)] = 5
    base_s: Annotated[Seconds, _doc("The first delay's upper bound in seconds; it doubles with each attempt.")] = 1.0
    cap_s: Annotated[Seconds, _doc("The greatest delay's upper bound in seconds.")] = 300.0


class Streams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the bus keeps."""

    replicas: Annotated[Positive, _doc("Copies of every stream; 3 in production.")] = 1
    jobs_per_kind: Annotated[Positive, _doc("Messages that wait for one kind before publishers are refused.")] = 100_000
    events_max_age_s: Annotated[Seconds, _doc("Age at which EVENTS forgets, in seconds.")] = 3 * 86_400.0
    events_max_bytes: Annotated[Positive, _doc("Size at which EVENTS refuses, in bytes; reserved on the server.")] = 8 * 1024**3
    dlq_max_age_s: Annotated[Seconds, _doc("Age at which DLQ forgets, in seconds.")] = 30 * 86_400.0
    dlq_max_bytes: Annotated[Positive, _doc("Size at which DLQ refuses, in bytes; reserved on the server.")] = 1024**3
    artifacts_max_age_s: Annotated[Seconds, _doc("Age at which artifacts are forgotten, in seconds.")] = 7 * 86_400.0


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subject, and the kind that its messages start."""

    subject: Annotated[str, _doc("A subject of any stream.")]
    kind: Annotated[str, _doc("The kind that its messages start.")]
    name: Annotated[str, _doc("Name of the durable consumer, jetray-<route>, less its prefix; the subject unless set.")] = ""
    deliver: Annotated[Literal["new", "all"], _doc("Where a new consumer begins: new, or all that the stream keeps.")] = "new"

    @property
    def durable(self) -> str:
        """The durable consumer."""
        return f"jetray-{self.name or re.sub(r'[^A-Za-z0-9_]+', '-', self.subject).strip('-')}"


class KindSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator says of one kind; each field unless set is the kind's own."""

    profile: Annotated[str | None, _doc("The profile whose actors run it.")] = None
    deadline_s: Annotated[Seconds | None, _doc("A job's time from its first start, in seconds.")] = None
    max_attempts: Annotated[Positive | None, _doc("Attempts that a job's own errors may end.")] = None
    config: Annotated[dict[str, Any], _doc("What the kind's class takes as its settings.")] = {}


class Kinds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which kinds this gateway knows beyond those that ship."""

    modules: Annotated[list[str], _doc("Importable modules that hold @job or @batch.")] = []
    settings: Annotated[dict[str, KindSettings], _doc("Per kind.")] = {}


class ProfileSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe for actors."""

    actors: Annotated[Positive, _doc("How many.")] = 2
    cpus: Annotated[float, _doc("CPUs that Ray reserves for each.", ge=0)] = 1.0
    gpus: Annotated[float, _doc("GPUs that Ray reserves for each.", ge=0)] = 0.0
    memory: Annotated[int, _doc("Bytes of memory that Ray reserves for each; 0 reserves none.", ge=0)] = 0
    concurrency: Annotated[Positive, _doc("Async jobs that share one actor.")] = 8
    runtime_env: Annotated[dict[str, Any], _doc("Ray's runtime_env; code execution, so the operator's alone.")] = {}


class Watermarks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When pressure is applied upstream, and when it is released."""

    high: Annotated[Positive, _doc("Messages waiting for a kind at which it is under pressure.")] = 1_000
    low: Annotated[int, _doc("Messages waiting at which it no longer is.", ge=0)] = 250


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    nats: Nats = Nats()
    ray: Ray = Ray()
    gateway: Gateway = Gateway()
    limits: Limits = Limits()
    retry: Retry = Retry()
    streams: Streams = Streams()
    routes: list[Route] = msgspec.field(
        default_factory=lambda: [Route(subject="planning.plan.approved", kind="plan")]
    )
    kinds: Kinds = Kinds()
    profiles: dict[str, ProfileSettings] = msgspec.field(default_factory=lambda: {"default": ProfileSettings()})
    watermarks: Watermarks = Watermarks()
    roots: Annotated[dict[str, str], _doc("Name to URI of where artifacts may go.")] = msgspec.field(
        default_factory=lambda: {"artifacts": "nats://artifacts"}
    )
    plan: PlanConfig = PlanConfig()
    council: Council = Council()
    councils: dict[str, CouncilOverrides] = {}
    providers: Providers = Providers()

    def of_kind(self, name: str) -> KindSettings:
        """What the operator says of a kind."""
        return self.kinds.settings.get(name, KindSettings())


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The effective settings. `path` must exist where it is given; `jetray.toml` here is read if it does.

    Raises `BadSettings`, one line that names the file or variable, the field and what is wrong with it.
    """
    environment = os.environ if environment is None else environment
    tree = _read(path)
    _overlay(tree, environment)
    try:
        settings = msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadSettings(f"settings: {_in_words(error)}") from error
    named = msgspec.structs.replace(settings.gateway, name=settings.gateway.name or as_token(platform.node() or "gateway"))
    settings = msgspec.structs.replace(settings, gateway=named)
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """What no single field can tell. Raises `BadSettings`."""
    if not is_token(settings.gateway.name):
        raise BadSettings(f"setting gateway.name: {settings.gateway.name!r} is not a token of A-Z a-z 0-9 _ -")
    half = settings.streams.events_max_age_s / 2
    for field in ("deadline_s", "batch_deadline_s"):
        if getattr(settings.gateway, field) > half:
            raise BadSettings(
                f"setting gateway.{field} is more than half of streams.events_max_age_s ({half:.0f} s): "
                f"a log might be forgotten before its job ends"
            )
    for name, kind in settings.kinds.settings.items():
        if kind.deadline_s is not None and kind.deadline_s > half:
            raise BadSettings(f"setting kinds.settings.{name}.deadline_s is more than half of streams.events_max_age_s")
        if kind.profile is not None and kind.profile not in settings.profiles:
            raise BadSettings(f"setting kinds.settings.{name}.profile: there is no [profiles.{kind.profile}]")
    if settings.retry.cap_s > half:
        raise BadSettings("setting retry.cap_s is more than half of streams.events_max_age_s")
    if settings.watermarks.low >= settings.watermarks.high:
        raise BadSettings("setting watermarks.low must be below watermarks.high")
    durables = [route.durable for route in settings.routes]
    for route in settings.routes:
        if not is_token(route.durable) or durables.count(route.durable) > 1:
            raise BadSettings(f"setting routes: {route.subject} needs a name of its own, a token of A-Z a-z 0-9 _ -")


def owns_planning(subject: str) -> bool:
    """Whether a routed subject lies in the stream that we create where nobody has."""
    return subject.startswith(f"{PLANNING.lower()}.")


def _read(path: Path | None) -> dict[str, Any]:
    file = path or Path(FILE)
    if path is None and not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"settings file {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"settings file {file} is not TOML: {error}") from error


_SCALARS: Final[Mapping[str, type[Struct]]] = {
    "NATS": Nats,
    "RAY": Ray,
    "GATEWAY": Gateway,
    "LIMITS": Limits,
    "RETRY": Retry,
    "STREAMS": Streams,
    "WATERMARKS": Watermarks,
}
_OWN_NAMES: Final = {"NATS_URL": ("nats", "url"), "RAY_ADDRESS": ("ray", "address")}


def _overlay(tree: dict[str, Any], environment: Mapping[str, str]) -> None:
    for variable, value in environment.items():
        if variable in _OWN_NAMES and value:
            section, name = _OWN_NAMES[variable]
            tree.setdefault(section, {})[name] = value
        elif variable.startswith("JETRAY_"):
            section, _, field = variable.removeprefix("JETRAY_").partition("_")
            struct = _SCALARS.get(section)
            if struct is None:
                continue
            if field.lower() not in struct.__struct_fields__:
                raise BadSettings(f"environment variable {variable}: [{section.lower()}] has no {field.lower()}")
            tree.setdefault(section.lower(), {})[field.lower()] = value


def _in_words(error: msgspec.ValidationError) -> str:
    """`$.gateway.ack_wait_s` as a user writes it."""
    text, _, path = str(error).partition(" - at `$")
    where = path.rstrip("`").lstrip(".")
    return f"{where}: {text}" if where else text
