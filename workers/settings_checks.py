"""What no single setting can tell: whether they fit together, and whether they fit the kinds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from contracts.tokens import is_token
from infra.store.uris import SCHEMES, scheme, wrong_with
from workers.kinds.registry import Kind
from workers.settings_source import BadSettings

if TYPE_CHECKING:
    from workers.settings import Route, Settings

__all__ = ["check", "check_kinds"]

_SERVER: Final = re.compile(r"((nats|tls|ws|wss)://)?(?!\w+://)([^@\s,]+@)?[^@/\s,]+(/[^@\s,]*)?")


def check(settings: Settings) -> None:
    """What no single field can tell. Raises `BadSettings`."""
    if not is_token(settings.gateway.name):
        raise BadSettings(f"setting gateway.name: {settings.gateway.name!r} is not a token of A-Z a-z 0-9 _ -")
    for server in settings.nats.url.split(","):
        if _SERVER.fullmatch(server.strip()) is None:
            raise BadSettings("setting nats.url: not nats://host:port, or several of them with commas")
    _check_times(settings)
    _check_watermarks(settings)
    _check_limits(settings)
    for name, profile in settings.profiles.items():
        if (profile.min_actors or 0) > profile.actors:
            raise BadSettings(f"setting profiles.{name}.min_actors must not be above profiles.{name}.actors")
    for name, kind in settings.kinds.settings.items():
        if kind.profile is not None and kind.profile not in settings.profiles:
            raise BadSettings(f"setting kinds.settings.{name}.profile: there is no [profiles.{kind.profile}]")
    _check_files(settings)
    _check_routes(settings.routes)
    try:
        settings.deliberation()
    except ValueError as error:
        raise BadSettings(f"setting {error}") from error


def check_kinds(settings: Settings, kinds: Mapping[str, Kind]) -> None:
    """What can be told only with the kinds at hand. Raises `BadSettings`."""
    known = ", ".join(sorted(kinds))
    for route in settings.routes:
        if route.kind not in kinds:
            raise BadSettings(
                f"setting routes: {route.subject} starts {route.kind}, and there is no such kind ({known})"
            )
    for name, kind_settings in settings.kinds.settings.items():
        if name not in kinds:
            raise BadSettings(f"setting kinds.settings.{name}: there is no such kind ({known}); see kinds.modules")
        if kinds[name].is_batch and kind_settings.attempt_deadline_s is not None:
            raise BadSettings(
                f"setting kinds.settings.{name}.attempt_deadline_s: {name} is a batch kind, and ends with its "
                "children: set deadline_s"
            )
        if kind_settings.key is not None:
            _check_key(name, kinds[name], kind_settings.key)
        if kind_settings.config:
            _check_config(name, kinds[name], kind_settings.config)
    for name, kind in kinds.items():
        profile = settings.of_kind(name).profile or kind.profile
        if not kind.is_batch and profile not in settings.profiles:
            raise BadSettings(
                f"kind {name} wants profile {profile}: add [profiles.{profile}], or set kinds.settings.{name}.profile"
            )


def _check_times(settings: Settings) -> None:
    half = settings.streams.events_max_age_s / 2
    times = {
        "gateway.deadline_s": settings.gateway.deadline_s,
        "gateway.batch_deadline_s": settings.gateway.batch_deadline_s,
        "retry.cap_s": settings.retry.cap_s,
    }
    for name, kind in settings.kinds.settings.items():
        times[f"kinds.settings.{name}.deadline_s"] = kind.deadline_s or 0.0
        times[f"kinds.settings.{name}.retry_cap_s"] = kind.retry_cap_s or 0.0
        if (kind.retry_base_s or 0.0) > (kind.retry_cap_s or settings.retry.cap_s):
            cap = f"kinds.settings.{name}.retry_cap_s" if kind.retry_cap_s else "retry.cap_s"
            raise BadSettings(f"setting kinds.settings.{name}.retry_base_s must not be above {cap}")
    for name, seconds in times.items():
        if seconds > half:
            raise BadSettings(
                f"setting {name} is {seconds:g} s, more than half of streams.events_max_age_s ({half:g} s): "
                f"a log might be forgotten before its job ends"
            )
    if settings.retry.base_s > settings.retry.cap_s:
        raise BadSettings("setting retry.base_s must not be above retry.cap_s")


def _check_watermarks(settings: Settings) -> None:
    for_all = settings.watermarks
    if for_all.low >= for_all.high:
        raise BadSettings("setting watermarks.low must be below watermarks.high")
    for name, kind in settings.kinds.settings.items():
        high, low = kind.high or for_all.high, for_all.low if kind.low is None else kind.low
        if low >= high:
            section = f"kinds.settings.{name}"
            whose_low = "watermarks.low" if kind.low is None else f"{section}.low"
            whose_high = f"{section}.high" if kind.high else "watermarks.high"
            raise BadSettings(
                f"setting {section}: {whose_low} is {low} and must be below {whose_high}, which is {high}"
            )


def _check_limits(settings: Settings) -> None:
    for name, kind in settings.kinds.settings.items():
        section = f"kinds.settings.{name}"
        if kind.burst is not None and kind.rate is None:
            raise BadSettings(f"setting {section}.burst says nothing without {section}.rate")
        if (kind.key is None) != (kind.max_running_per_key is None):
            raise BadSettings(f"setting {section}: set both key and max_running_per_key, or neither")


def _check_key(name: str, kind: Kind, key: str) -> None:
    if not _may_hold(msgspec.inspect.type_info(kind.input_type), key.split(".")):
        raise BadSettings(f"setting kinds.settings.{name}.key: the input of {name} has no field {key}")


def _may_hold(info: msgspec.inspect.Type, path: Sequence[str]) -> bool:
    """Whether a value of this type may have something under these names, each in what stands under the one before."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _may_hold(info.type, path)
    if not path or isinstance(info, (msgspec.inspect.AnyType, msgspec.inspect.CustomType)):
        return True
    if isinstance(info, msgspec.inspect.UnionType):
        return any(_may_hold(each, path) for each in info.types)
    if isinstance(info, msgspec.inspect.DictType):
        return _may_hold(info.value_type, path[1:])
    fields = getattr(info, "fields", ())
    return any(field.encode_name == path[0] and _may_hold(field.type, path[1:]) for field in fields)


def _check_files(settings: Settings) -> None:
    root, workspaces = settings.storage.root, settings.workspaces
    for name, uri in (("storage.root", root), *(("workspaces.inputs", uri) for uri in workspaces.inputs)):
        wrong = wrong_with(uri)
        if wrong:
            raise BadSettings(f"setting {name}: {uri!r} {wrong}")
        if scheme(uri) not in SCHEMES:
            raise BadSettings(f"setting {name}: {uri!r} must begin with {', '.join(f'{name}://' for name in SCHEMES)}")
    if root == "file:///":
        raise BadSettings("setting storage.root: not the root directory itself")
    several = settings.ray.address not in ("local", "none")
    if several and scheme(root) == "file" and not settings.storage.shared:
        raise BadSettings(
            "setting storage.root: jobs run on several nodes, and file:// is one node's; where each has the same files "
            "there, set storage.shared"
        )
    if workspaces.base and not os.path.isabs(workspaces.base):
        raise BadSettings("setting workspaces.base must be an absolute path")


def _check_routes(routes: list[Route]) -> None:
    durables = [route.durable for route in routes]
    for route in routes:
        tokens = route.subject.split(".")
        if not all(tokens) or re.search(r"\s", route.subject) or ">" in tokens[:-1]:
            raise BadSettings(f"setting routes: {route.subject!r} is not a subject")
        if tokens[0] in ("jobs", "control") or tokens[0].startswith(("$", "*", ">")):
            raise BadSettings(f"setting routes: {route.subject} cannot be routed: it is not a domain's subject")
        if not is_token(route.durable) or durables.count(route.durable) > 1:
            raise BadSettings(f"setting routes: {route.subject} needs a name of its own, a token of A-Z a-z 0-9 _ -")


def _check_config(name: str, kind: Kind, config: dict[str, Any]) -> None:
    if name in ("deliberation", "plan"):
        section = "[council], [councils] and [providers]" if name == "deliberation" else "[plan]"
        raise BadSettings(f"setting kinds.settings.{name}.config: the settings of this kind are {section}")
    if kind.config_type is None:
        raise BadSettings(f"setting kinds.settings.{name}.config: this kind takes no settings")
    try:
        msgspec.convert(config, kind.config_type)
    except msgspec.ValidationError as error:
        raise BadSettings(f"setting kinds.settings.{name}.config: {error}") from error
