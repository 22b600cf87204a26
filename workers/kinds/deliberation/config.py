"""The settings of kind `deliberation`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

__all__ = [
    "Council",
    "CouncilOverrides",
    "DeliberationConfig",
    "Member",
    "OfflineSettings",
    "OpenAISettings",
    "Providers",
]

MAX_AGENTS: Final = 64

STANCES: Final = (
    "Prefer the smallest change that meets the task, and name what you leave out.",
    "Begin with the tests that would prove it done, then design what passes them.",
    "Write for those who keep it running: clear names, documentation, a runbook.",
    "Think first of what can fail: errors, load, concurrency, and the way back.",
    "Plan the delivery in steps, each of use alone, and say how each is measured.",
)
"""One for each agent in turn, so that the members of a council do not all say the same."""

RUBRIC: Final = {"quality": 0.5, "tests": 0.3, "documentation": 0.2}

Provider = Annotated[
    Literal["offline", "openai"],
    Meta(description="Who answers: `openai` is any OpenAI-compatible endpoint; `offline` is no language model."),
]
ModelName = Annotated[str, Meta(description="The model to ask. Empty: the provider's own setting.")]
NumAgents = Annotated[int, Meta(ge=1, le=MAX_AGENTS, description="Size of the council.")]
Rounds = Annotated[int, Meta(ge=0, le=20, description="Rounds of peer review. Fewer than two agents skip them.")]
Quorum = Annotated[
    Annotated[int, Meta(ge=1)] | Literal["majority"],
    Meta(description="Agents whose proposals must stand at the end: a number, or `majority`."),
]
Rubric = Annotated[
    dict[Annotated[str, Meta(min_length=1)], Annotated[float, Meta(gt=0)]],
    Meta(
        min_length=1,
        description="Criterion to weight. Scores are 0 to 1 a criterion; the total is their weighted mean.",
    ),
]
Stances = Annotated[
    list[Annotated[str, Meta(min_length=1)]],
    Meta(min_length=1, description="One for each agent in turn, so that not all propose the same."),
]
CallTimeout = Annotated[
    float, Meta(gt=0, description="Seconds that one call to the model may take, its retries included.")
]
AnswerBytes = Annotated[
    int,
    Meta(ge=1024, le=262144, description="An answer over so many bytes is no answer: it would not fit on the bus."),
]


class Member(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named member of a council."""

    id: Annotated[str, Meta(min_length=1, description="Its name, unique within the council.")]
    role: Annotated[str | None, Meta(description="Its role, where that is not the council's.")] = None
    model: Annotated[str | None, Meta(description="The model to ask for it, where that is not the council's.")] = None
    prompt_template: Annotated[
        str | None,
        Meta(
            description="Asks for its proposal instead of the prompt that ships. May hold `{task_description}`, "
            "`{role}`, `{agent_id}` and `{stance}`."
        ),
    ] = None
    stance: Annotated[str | None, Meta(description="Its stance, instead of one of `stances`.")] = None


Members = Annotated[
    list[Member],
    Meta(max_length=MAX_AGENTS, description="Names for the first seats; the others are `agent-<role>-<001>`."),
]


class Council(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a council is made up, unless a message says otherwise."""

    provider: Provider = "offline"
    model: ModelName = ""
    num_agents: NumAgents = 3
    rounds: Rounds = 1
    quorum: Quorum = "majority"
    rubric: Rubric = msgspec.field(default_factory=lambda: dict(RUBRIC))
    agents: Members = []
    stances: Stances = msgspec.field(default_factory=lambda: list(STANCES))
    call_timeout_s: CallTimeout = 120.0
    answer_bytes: AnswerBytes = 65536


class CouncilOverrides(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one role's council has otherwise than `council`. A rubric counts as a whole."""

    provider: Provider | None = None
    model: ModelName | None = None
    num_agents: NumAgents | None = None
    rounds: Rounds | None = None
    quorum: Quorum | None = None
    rubric: Rubric | None = None
    agents: Members | None = None
    stances: Stances | None = None
    call_timeout_s: CallTimeout | None = None
    answer_bytes: AnswerBytes | None = None


class OpenAISettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Provider `openai`: any endpoint that speaks its protocol, vLLM included."""

    base_url: Annotated[
        str,
        Meta(pattern=r"^https?://[^/@\s]+(/[^\s]*)?$", description="Where it answers, up to and with `/v1`."),
    ] = "https://api.openai.com/v1"
    model: Annotated[str, Meta(description="The model to ask where no council names one.")] = ""
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None,
        Meta(description="Sampling temperature; scoring uses 0 then. Unset: the endpoint's own for everything."),
    ] = None
    timeout_s: Annotated[float, Meta(gt=0, description="Seconds that one HTTP request may take.")] = 60.0
    max_retries: Annotated[
        int,
        Meta(ge=0, le=10, description="Retries of one call after 408, 409, 429, 5xx, a timeout or a lost connection."),
    ] = 2
    api_key_env: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            description="NAME of the environment variable that holds the key. Never the key itself.",
        ),
    ] = "OPENAI_API_KEY"
    score_format: Annotated[
        Literal["json_schema", "json_object", "text"],
        Meta(
            description="How the endpoint is told to answer with JSON; `text` for one that knows no `response_format`."
        ),
    ] = "json_schema"
    extra_body: Annotated[
        dict[str, Any], Meta(description="More fields for each request's body, as `max_completion_tokens`.")
    ] = {}

    def __post_init__(self) -> None:
        try:
            # The pattern lets a port through that is none, and half an IPv6 address.
            found = urlsplit(self.base_url).hostname and urlsplit(self.base_url).port != 0
        except ValueError:
            found = False
        if not found:
            raise ValueError("base_url has no host, or a port that is none")


class OfflineSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Provider `offline`: deterministic rules instead of a language model, for trials and tests."""

    think_s: Annotated[
        float, Meta(ge=0, le=600, description="Seconds that each call waits, so that one can watch a council at work.")
    ] = 0.0


class Providers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of each provider."""

    openai: Annotated[OpenAISettings, Meta(description="Any OpenAI-compatible endpoint.")] = OpenAISettings()
    offline: Annotated[OfflineSettings, Meta(description="No language model.")] = OfflineSettings()


class DeliberationConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that kind `deliberation` may be told."""

    council: Annotated[Council, Meta(description="The council of every role that `councils` does not name.")] = (
        Council()
    )
    councils: Annotated[
        dict[Annotated[str, Meta(min_length=1)], CouncilOverrides],
        Meta(description="Role to what its council has otherwise, field by field."),
    ] = {}
    providers: Annotated[Providers, Meta(description="Who can answer.")] = Providers()

    def __post_init__(self) -> None:
        _check(self.council, "council", self.providers)
        for role in self.councils:
            _check(self.council_for(role), f"councils.{role}", self.providers)

    def council_for(self, role: str) -> Council:
        """The council of `role`."""
        overrides = self.councils.get(role)
        if overrides is None:
            return self.council
        given = {name: getattr(overrides, name) for name in overrides.__struct_fields__}
        return msgspec.structs.replace(self.council, **{n: value for n, value in given.items() if value is not None})


def _check(council: Council, where: str, providers: Providers) -> None:
    """Raise `ValueError`, naming the setting, for what the types cannot say."""
    if len(council.agents) > council.num_agents:
        raise ValueError(
            f"{where}.agents names {len(council.agents)} members and {where}.num_agents is {council.num_agents}: "
            "raise num_agents, or name fewer"
        )
    ids = [member.id for member in council.agents]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ValueError(f"{where}.agents names {twice[0]!r} twice")
    if council.quorum != "majority" and council.quorum > council.num_agents:
        raise ValueError(
            f"{where}.quorum is {council.quorum}, more than the {council.num_agents} agents of {where}.num_agents"
        )
    if council.provider == "openai" and not (council.model or providers.openai.model):
        raise ValueError(
            f"{where}.provider is openai and nothing names a model: set {where}.model or providers.openai.model"
        )
