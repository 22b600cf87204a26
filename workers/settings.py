"""One frozen, documented, validated `Settings`: `jetray.toml`, overridden by the environment.

Every field says what it is, in which unit; `jetray config --init` writes those words into a file to start from, and
`load` names the field in the error that refuses it.

From the environment come `NATS_URL`, `RAY_ADDRESS` and `JETRAY_<SECTION>_<FIELD>`, as `JETRAY_GATEWAY_ACK_WAIT_S=30`.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.subjects import ARTIFACTS, PLANNING, route_durable
from workers.kinds.deliberation.config import Council, CouncilOverrides, DeliberationConfig, Providers
from workers.kinds.plan import PlanConfig
from workers.settings_checks import check, check_kinds
from workers.settings_source import BadSettings, convert, overlay, read

__all__ = ["FILE", "BadSettings", "Settings", "check", "check_kinds", "load", "owns_planning"]

FILE: Final = "jetray.toml"
_OWN_NAMES: Final = {"NATS_URL": ("nats", "url"), "RAY_ADDRESS": ("ray", "address")}


def _doc(text: str, **bounds: Any) -> Meta:
    return Meta(description=text, **bounds)


Seconds = Annotated[float, Meta(gt=0)]
Positive = Annotated[int, Meta(ge=1)]


class Nats(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the bus is."""

    url: Annotated[str, _doc("Server, or several of a cluster with commas. Environment: NATS_URL.")] = (
        "nats://127.0.0.1:4222"
    )
    credentials: Annotated[str | None, _doc("Path of a .creds file.")] = None
    inbox_prefix: Annotated[str, _doc("Prefix of the inboxes that this user may subscribe to.", min_length=1)] = (
        "_INBOX"
    )


class Ray(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where jobs run."""

    address: Annotated[
        str,
        _doc(
            "`local` embeds Ray; `host:6379` joins a cluster; `none` runs jobs without Ray, one at a time. "
            "Environment: RAY_ADDRESS."
        ),
    ] = "local"


class Gateway(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this gateway works."""

    name: Annotated[str, _doc("A token, and each gateway has its own. Empty: the host's name.")] = ""
    ack_wait_s: Annotated[Seconds, _doc("The lease on a message, in seconds; renewed every third of it.")] = 60.0
    grace_s: Annotated[Seconds, _doc("What a job gets to end by itself when it is stopped, in seconds.")] = 30.0
    deadline_s: Annotated[Seconds, _doc("A job's time from its first start, in seconds; kinds may ask for less.")] = (
        600.0
    )
    batch_deadline_s: Annotated[Seconds, _doc("The same for batches.")] = 86_400.0
    open_batches: Annotated[Positive, _doc("Batches that one gateway holds at once.")] = 64
    prefetch: Annotated[
        float,
        _doc(
            "Jobs fetched ahead of free slots, as a share of the slots; at least one an actor, of short kinds a batch. "
            "0: none, for jobs so long that waiting here would keep them from a gateway with a free slot.",
            ge=0,
        ),
    ] = 0.25


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an input may be at most."""

    input_bytes: Annotated[Positive, _doc("Bytes; larger ones go by reference.")] = 1024 * 1024
    input_depth: Annotated[Positive, _doc("Levels of nesting.")] = 64


class Retry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a job is tried again."""

    max_attempts: Annotated[Positive, _doc("Attempts that a job's own errors may end.")] = 3
    max_lost: Annotated[int, _doc("Attempts that may be lost with what ran them.", ge=0)] = 5
    base_s: Annotated[Seconds, _doc("The first delay's upper bound, in seconds; it doubles with each attempt.")] = 1.0
    cap_s: Annotated[Seconds, _doc("The greatest delay's upper bound, in seconds.")] = 300.0
    delayed: Annotated[
        int,
        _doc("Messages of a lane that may wait out a delay; past half of them they wait at the tail instead.", ge=2),
    ] = 1_000


class Streams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the bus keeps."""

    replicas: Annotated[int, _doc("Copies of every stream; 3 in production.", ge=1, le=5)] = 1
    jobs_per_kind: Annotated[Positive, _doc("Messages that wait for one kind before publishers are refused.")] = 100_000
    events_max_age_s: Annotated[Seconds, _doc("Age at which EVENTS forgets, in seconds.")] = 3 * 86_400.0
    events_max_bytes: Annotated[
        Positive, _doc("Size at which EVENTS refuses, in bytes; reserved on the server's disk.")
    ] = 8 * 1024**3
    dlq_max_age_s: Annotated[Seconds, _doc("Age at which DLQ forgets, in seconds.")] = 30 * 86_400.0
    dlq_max_bytes: Annotated[Positive, _doc("Size at which DLQ refuses, in bytes; reserved on the server's disk.")] = (
        1024**3
    )
    artifacts_max_age_s: Annotated[Seconds, _doc("Age at which artifacts are forgotten, in seconds.")] = 7 * 86_400.0


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subject, and the kind that its messages start."""

    subject: Annotated[str, _doc("A subject of any stream; wildcards may stand in it.", min_length=1)]
    kind: Annotated[str, _doc("The kind that its messages start.", min_length=1)]
    name: Annotated[str, _doc("The durable consumer is named jetray-<name>. Empty: made from the subject.")] = ""
    deliver: Annotated[
        Literal["new", "all"], _doc("Where a new consumer begins: `new`, or `all` that the stream keeps.")
    ] = "new"

    @property
    def durable(self) -> str:
        """The durable consumer."""
        return f"jetray-{self.name}" if self.name else route_durable(self.subject)


class KindSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator says of one kind; each field unless set is the kind's own."""

    profile: Annotated[str | None, _doc("The profile whose actors run it.")] = None
    deadline_s: Annotated[Seconds | None, _doc("A job's time from its first start, in seconds.")] = None
    attempt_deadline_s: Annotated[Seconds | None, _doc("The time of one attempt, in seconds.")] = None
    max_attempts: Annotated[Positive | None, _doc("Attempts that a job's own errors may end.")] = None
    max_lost: Annotated[Annotated[int, Meta(ge=0)] | None, _doc("Attempts that may be lost with what ran them.")] = None
    retry_base_s: Annotated[Seconds | None, _doc("The first delay's upper bound, in seconds.")] = None
    retry_cap_s: Annotated[Seconds | None, _doc("The greatest delay's upper bound, in seconds.")] = None
    high: Annotated[Positive | None, _doc("Messages waiting for it at which it is under pressure.")] = None
    low: Annotated[Annotated[int, Meta(ge=0)] | None, _doc("Messages waiting for it at which it no longer is.")] = None
    rate: Annotated[Annotated[float, Meta(gt=0)] | None, _doc("Jobs that one gateway starts in a second.")] = None
    burst: Annotated[Positive | None, _doc("Jobs that it may start at once after a pause; unset: a second's.")] = None
    key: Annotated[
        Annotated[str, Meta(min_length=1)] | None, _doc("A field of the input, `a.b` for a field of a field.")
    ] = None
    max_running_per_key: Annotated[
        Positive | None, _doc("Jobs with the same value there that one gateway runs at once.")
    ] = None
    config: Annotated[dict[str, Any], _doc("What the kind's class takes as its settings.")] = {}


class Kinds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which kinds this gateway knows beyond those that ship."""

    modules: Annotated[list[str], _doc("Importable modules that hold @job or @batch.")] = []
    settings: Annotated[dict[str, KindSettings], _doc("What you say of single kinds, by their names.")] = {}


class ProfileSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe for actors."""

    actors: Annotated[Positive, _doc("How many; where min_actors is set, how many at most.")] = 2
    min_actors: Annotated[
        Positive | None, _doc("How many at least: from there the pool grows and shrinks with the depth of its queues.")
    ] = None
    spares: Annotated[
        int, _doc("Actors that are kept ready beyond those, each to take over at once when one dies.", ge=0)
    ] = 0
    recycle_jobs: Annotated[
        Positive | None, _doc("Jobs after which an actor is replaced; 1 gives each a fresh interpreter.")
    ] = None
    recycle_rss: Annotated[
        Positive | None, _doc("Bytes of resident memory above which an actor is replaced, once it is idle.")
    ] = None
    silent_s: Annotated[
        Seconds,
        _doc("An actor whose event loop has not answered for so many seconds is killed; sync jobs may block it."),
    ] = 15.0
    cpus: Annotated[float, _doc("CPUs that Ray reserves for each.", ge=0)] = 1.0
    gpus: Annotated[float, _doc("GPUs that Ray reserves for each.", ge=0)] = 0.0
    memory: Annotated[int, _doc("Bytes of memory that Ray reserves for each; 0 reserves none.", ge=0)] = 0
    concurrency: Annotated[Positive, _doc("Async jobs that share one actor.")] = 8
    runtime_env: Annotated[dict[str, Any], _doc("Ray's runtime_env. It runs code, so it is the operator's alone.")] = {}


class Watermarks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When pressure is applied upstream, and when it is released."""

    high: Annotated[Positive, _doc("Messages waiting for a kind at which it is under pressure.")] = 1_000
    low: Annotated[int, _doc("Messages waiting at which it no longer is.", ge=0)] = 250


class Scaling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pools grow and shrink, where a profile has min_actors."""

    target: Annotated[Seconds, _doc("Messages, waiting and in hand, that are right for one slot.")] = 4.0
    quiet_s: Annotated[Seconds, _doc("Seconds for which fewer actors must have been enough before one is let go.")] = (
        30.0
    )


class Storage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where files of jobs are kept."""

    root: Annotated[
        str,
        _doc(
            "`nats://artifacts`, the object store; `file:///srv/files` of one machine; `s3://bucket/prefix`, for which "
            "the package s3fs is needed wherever jobs run."
        ),
    ] = f"nats://{ARTIFACTS}"
    shared: Annotated[bool, _doc("Whether each node has the same files under a root of file://.")] = False


class Workspaces(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Directories in which jobs work: each attempt has one of its own."""

    base: Annotated[str, _doc("An absolute path on each node. Empty: the machine's directory for temporary files.")] = (
        ""
    )
    keep_failed: Annotated[
        bool, _doc("Keep those of attempts that failed, as `<base>/jetray-kept-…`; removing them is yours.")
    ] = False
    inputs: Annotated[
        list[str],
        _doc("URIs below which there are inputs that jobs may have copied there, beside what is below storage.root."),
    ] = []


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    nats: Nats = Nats()
    ray: Ray = Ray()
    gateway: Gateway = Gateway()
    limits: Limits = Limits()
    retry: Retry = Retry()
    streams: Streams = Streams()
    routes: Annotated[
        list[Route],
        _doc(
            "Subjects of other owners, and the kinds that their messages start. Jobs of any kind may also be published "
            "to jobs.<kind>, without a route."
        ),
    ] = msgspec.field(default_factory=lambda: [Route(subject="planning.plan.approved", kind="plan")])
    kinds: Kinds = Kinds()
    profiles: Annotated[
        dict[str, ProfileSettings], _doc("Recipes for actors. A kind that names none runs in `default`.")
    ] = msgspec.field(default_factory=lambda: {"default": ProfileSettings()})
    scaling: Scaling = Scaling()
    watermarks: Watermarks = Watermarks()
    roots: Annotated[dict[str, str], _doc("Where artifacts may go: a name, and the URI that it stands for.")] = (
        msgspec.field(default_factory=lambda: {"artifacts": "nats://artifacts"})
    )
    storage: Storage = Storage()
    workspaces: Workspaces = Workspaces()
    plan: PlanConfig = PlanConfig()
    council: Council = Council()
    councils: Annotated[
        dict[str, CouncilOverrides], _doc("What single roles' councils have otherwise than [council].")
    ] = {}
    providers: Providers = Providers()

    def of_kind(self, name: str) -> KindSettings:
        """What the operator says of a kind."""
        return self.kinds.settings.get(name, KindSettings())

    def deliberation(self) -> DeliberationConfig:
        """What kind `deliberation` takes as its settings. Raises `ValueError` where they contradict one another."""
        return DeliberationConfig(council=self.council, councils=self.councils, providers=self.providers)

    def offline_councils(self) -> list[str]:
        """The councils that no language model answers, by the sections that say so."""
        config = self.deliberation()
        named = {"council": self.council} | {f"councils.{role}": config.council_for(role) for role in self.councils}
        return [section for section, council in named.items() if council.provider == "offline"]


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The effective settings. `path` must exist where it is given; `jetray.toml` here is read if it does.

    Raises `BadSettings`, one line that names the file or variable, the field and what is wrong with it.
    """
    environment = os.environ if environment is None else environment
    file = path or Path(FILE)
    tree = read(file) if path is not None or file.exists() else {}
    convert(tree, Settings, str(file))
    settings: Settings = convert(overlay(tree, Settings, environment, _OWN_NAMES), Settings, "environment")
    if not settings.gateway.name:
        gateway = msgspec.structs.replace(settings.gateway, name=_host_name())
        settings = msgspec.structs.replace(settings, gateway=gateway)
    check(settings)
    return settings


def owns_planning(subject: str) -> bool:
    """Whether a routed subject lies in the stream that we create where nobody has."""
    return subject.startswith(f"{PLANNING.lower()}.")


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", platform.node()).strip("-")[:128] or "gateway"
