"""Settings as TOML: the annotated `jetray.toml` to start from, and the effective settings with secrets masked.

Both come from the classes in `workers.settings`, so a new field needs no word here. In the annotated file a line that
begins with `# ` tells, and one that begins with `#` alone shows what may be set.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from workers.settings import Settings

__all__ = ["annotated", "effective", "masked_text"]

WIDTH: Final = 118

_HEAD: Final = """\
Settings of Jetray. What stands here is the default; delete what you do not change.

The environment has the last word: NATS_URL, RAY_ADDRESS, and JETRAY_<SECTION>_<SETTING> for everything else, as in
JETRAY_GATEWAY_GRACE_S=60 or JETRAY_PROVIDERS_OPENAI_BASE_URL=http://127.0.0.1:8000/v1."""

_UNSET: Final = {
    ("nats", "credentials"): "jetray.creds",
    ("profiles", "default", "min_actors"): 1,
    ("profiles", "default", "recycle_jobs"): 1_000,
    ("profiles", "default", "recycle_rss"): 2 * 1024**3,
    ("providers", "openai", "temperature"): 0.7,
}
"""What to show for a setting that is not set."""

_EXAMPLES: Final = {
    ("routes",): """\
# A second subject: an upstream team's own event becomes a council. A stream must own the subject.
#[[routes]]
#subject = "design.review.requested"
#kind = "deliberation"
#name = "design-reviews"
#deliver = "all"
""",
    ("kinds", "settings"): """\
#[kinds.settings.deliberation]
#profile = "models"
# A job's time, from its first start to its end, and that of one attempt: what takes longer is killed and tried again.
#deadline_s = 300.0
#attempt_deadline_s = 120.0
#max_attempts = 2
#max_lost = 10
#retry_base_s = 5.0
#retry_cap_s = 60.0
# Messages waiting for it at which it is under pressure, and at which it no longer is.
#high = 200
#low = 50
# Jobs that one gateway starts in a second, and at once after a pause.
#rate = 10.0
#burst = 20
# Jobs with the same value in a field of their input that one gateway runs at once; others go on meanwhile.
#key = "constraints.story_id"
#max_running_per_key = 2
""",
    ("profiles",): """\
# A profile of your own.
#[profiles.models]
#actors = 4
#min_actors = 1
#spares = 1
#cpus = 0.5
#gpus = 1.0
#memory = 8589934592
#concurrency = 16
#runtime_env = { env_vars = { HF_HOME = "/models" } }
""",
    ("roots",): """\
# More of them: `file:///srv/artifacts` of one machine, `s3://bucket/prefix` of all.
""",
    ("councils",): """\
#[councils.ARCHITECT]
#provider = "openai"
#model = "your-model"
#num_agents = 5
#rounds = 2
#quorum = 3
#rubric = { quality = 0.6, simplicity = 0.4 }
#agents = [{ id = "agent-architect-lead", stance = "Decide what not to build." }]
""",
}
"""What may stand beside the defaults."""

_KEYLIKE: Final = re.compile(r"key|token|secret|passw|pwd|credential|auth|cookie|private|dsn", re.IGNORECASE)
_USERINFO: Final = re.compile(r"(?<=://)[^/\s\"']*@")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
MASK: Final = "***"


def annotated() -> str:
    """A `jetray.toml` that sets every default and says what it is. Loading it gives the defaults."""
    lines = [*_comment(_HEAD), ""]
    for name in Settings.__struct_fields__:
        lines += _annotated(Settings(), name, (name,))
    return "\n".join(lines).rstrip() + "\n"


def effective(settings: Settings) -> str:
    """The settings as they are, without what is not set. Secrets are masked."""
    lines: list[str] = []
    for name, value in _masked(settings).items():
        lines += _tables((name,), value)
    return "\n".join(lines).strip() + "\n"


def masked_text(text: str) -> str:
    """`text` without the user and password of any URL in it."""
    return _USERINFO.sub(f"{MASK}@", text)


def _annotated(owner: Struct, name: str, path: tuple[str, ...]) -> list[str]:
    """A section: what it is, its settings, its subsections, and examples of what else may stand there."""
    value = getattr(owner, name)
    about = _description(type(owner), name)
    if isinstance(value, Struct):
        about = about or _first_line(value)
        lines = [*_comment(about), f"[{_key(path)}]", *_scalars(value, path), ""]
        for field in _sections(value):
            lines += _annotated(value, field, (*path, field))
    elif isinstance(value, list):
        lines = _comment(about)
        for each in value:
            lines += [f"[[{_key(path)}]]", *_scalars(each, path), ""]
    elif any(isinstance(each, Struct) for each in value.values()):
        lines = _comment(about)
        for key, each in value.items():
            lines += [f"[{_key((*path, key))}]", *_scalars(each, (*path, key)), ""]
    else:
        lines = [*_comment(about), f"[{_key(path)}]"]
        lines += [f"{_key((key,))} = {_toml(each)}" for key, each in value.items()]
        lines += [""] if value or path not in _EXAMPLES else []
    if path in _EXAMPLES:
        lines += [*_EXAMPLES[path].splitlines(), ""]
    return lines


def _scalars(of: Struct, path: tuple[str, ...]) -> list[str]:
    lines = []
    for name in of.__struct_fields__:
        if name in _sections(of):
            continue
        value = getattr(of, name)
        lines += _comment(_description(type(of), name))
        lines.append(f"#{name} = {_toml(_UNSET[*path, name])}" if value is None else f"{name} = {_toml(value)}")
    return lines


def _sections(of: Struct) -> list[str]:
    """The fields that are sections of their own."""
    return [name for name in of.__struct_fields__ if isinstance(getattr(of, name), Struct) or name == "settings"]


def _tables(path: tuple[str, ...], value: Any) -> Iterable[str]:
    """Sections of a plain tree, each with its settings."""
    if isinstance(value, list):
        for each in value:
            yield from (f"[[{_key(path)}]]", *(f"{_key((name,))} = {_toml(v)}" for name, v in each.items()), "")
        return
    inner = [name for name, each in value.items() if _is_section((*path, name), each)]
    scalars = [f"{_key((name,))} = {_toml(each)}" for name, each in value.items() if name not in inner]
    if scalars or not inner:
        yield from (f"[{_key(path)}]", *scalars, "")
    for name in inner:
        yield from _tables((*path, name), value[name])


def _is_section(path: tuple[str, ...], value: Any) -> bool:
    named = path[:1] in (("profiles",), ("councils",), ("providers",)) and len(path) == 2
    return isinstance(value, dict) and (named or (path[:2] == ("kinds", "settings") and len(path) <= 3))


def _masked(settings: Settings) -> dict[str, Any]:
    tree: dict[str, Any] = _without_none(msgspec.to_builtins(settings))
    tree["nats"]["url"] = ",".join(_mask_server(server) for server in settings.nats.url.split(","))
    for profile in tree["profiles"].values():
        profile["runtime_env"] = _mask(profile["runtime_env"])
    for kind in tree["kinds"]["settings"].values():
        kind["config"] = _mask(kind["config"])
    openai = tree["providers"]["openai"]
    openai["extra_body"] = _mask(openai["extra_body"])
    tree["roots"] = _mask(tree["roots"])
    return tree


def _mask_server(server: str) -> str:
    # The password of a server may hold what no other URL's may, a slash.
    scheme, found, rest = server.rpartition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{found}{MASK}@{host}" if at and user else server


def _mask(value: Any, *, secret: bool = False) -> Any:
    """A tree of the operator's own words: texts under names like those of keys are hidden, and users of URLs."""
    match value:
        case str():
            return MASK if secret and value else masked_text(value)
        case Mapping():
            return {
                name: _mask(each, secret=secret or _KEYLIKE.search(name) is not None) for name, each in value.items()
            }
        case list():
            return [_mask(each, secret=secret) for each in value]
    return value


def _without_none(value: Any) -> Any:
    # TOML has no null.
    if isinstance(value, dict):
        return {name: _without_none(each) for name, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list) else value


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Struct():
            return _toml(_without_none(msgspec.to_builtins(value)))
        case Mapping():
            inner = ", ".join(f"{_key((str(name),))} = {_toml(each)}" for name, each in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case list():
            return _toml_list([_toml(each) for each in value])
    return str(value)


def _toml_list(items: list[str]) -> str:
    line = f"[{', '.join(items)}]"
    return line if len(line) < WIDTH - 20 else "\n".join(("[", *(f"    {item}," for item in items), "]"))


def _key(path: tuple[str, ...]) -> str:
    return ".".join(name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in path)


def _comment(text: str) -> list[str]:
    paragraphs = text.splitlines() if text else []
    wrapped = (textwrap.wrap(line, WIDTH - 2) or [""] for line in paragraphs)
    return [f"# {line}".rstrip() for lines in wrapped for line in lines]


def _description(of: type[Struct], name: str) -> str:
    # The type info of the first of them tells all: descriptions hang on the field's type.
    info: Any = msgspec.inspect.type_info(of)
    field = next(field for field in info.fields if field.name == name)
    return str((getattr(field.type, "extra_json_schema", None) or {}).get("description", ""))


def _first_line(of: Struct) -> str:
    return (type(of).__doc__ or "").partition("\n")[0]
