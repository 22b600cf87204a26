"""Settings: where they come from, what they default to, and what is said of those that are wrong."""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from contracts.tokens import is_token
from workers.core.retry import RetryPolicy
from workers.kinds.registry import Kind, job
from workers.kinds.registry import load as load_kinds
from workers.runtime import terms
from workers.settings import (
    BadSettings,
    Kinds,
    KindSettings,
    Route,
    Settings,
    check,
    check_kinds,
    load,
    owns_planning,
)

TOO_LONG = "a log might be forgotten before its job ends"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty directory to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str, **environment: str) -> Settings:
    Path("jetray.toml").write_text(text, encoding="utf-8")
    return load(None, environment)


def refusal(text: str, **environment: str) -> str:
    with pytest.raises(BadSettings) as refused:
        loaded(text, **environment)
    return str(refused.value)


# --- where they come from ---


def test_without_a_file_they_are_the_defaults(here):
    settings = load(None, {})

    assert msgspec.structs.replace(settings, gateway=Settings().gateway) == Settings()


def test_the_file_here_is_read(here):
    assert loaded("[gateway]\ngrace_s = 7").gateway.grace_s == 7.0


def test_a_file_that_is_named_must_exist(here):
    with pytest.raises(BadSettings, match=r"^settings file nowhere\.toml cannot be read: No such file or directory$"):
        load(Path("nowhere.toml"), {})


def test_the_environment_has_the_last_word(here):
    settings = loaded(
        '[nats]\nurl = "nats://file:4222"\n[gateway]\ngrace_s = 7',
        NATS_URL="nats://environment:4222",
        RAY_ADDRESS="none",
        JETRAY_GATEWAY_GRACE_S="9.5",
        JETRAY_GATEWAY_OPEN_BATCHES="3",
        JETRAY_KINDS_MODULES="one, two.three",
        JETRAY_PLAN_ROLES="DEV",
        JETRAY_COUNCIL_QUORUM="2",
        JETRAY_PROVIDERS_OPENAI_BASE_URL="http://127.0.0.1:8000/v1",
        JETRAY_PROVIDERS_OPENAI_TEMPERATURE="0.2",
    )

    assert settings.nats.url == "nats://environment:4222"
    assert settings.ray.address == "none"
    assert settings.gateway.grace_s == 9.5
    assert settings.gateway.open_batches == 3
    assert settings.kinds.modules == ["one", "two.three"]
    assert settings.plan.roles == ["DEV"]
    assert settings.council.quorum == 2
    assert settings.providers.openai.base_url == "http://127.0.0.1:8000/v1"
    assert settings.providers.openai.temperature == 0.2


def test_an_empty_variable_sets_nothing(here):
    assert loaded("[gateway]\ngrace_s = 7", JETRAY_GATEWAY_GRACE_S="", NATS_URL="").gateway.grace_s == 7.0


def test_what_is_not_a_setting_is_left_alone(here):
    assert (
        loaded("", JETRAY_READY_FD="3", JETRAY_IMAGE="jetray:1", JETRAYS="1", GATEWAY_GRACE_S="1").gateway.grace_s
        == 30.0
    )


def test_overriding_does_not_change_what_a_profile_of_the_file_says(here):
    settings = loaded("[profiles.default]\nactors = 4\n[profiles.gpu]\ngpus = 1.0", JETRAY_GATEWAY_GRACE_S="9")

    assert (settings.profiles["default"].actors, settings.profiles["gpu"].gpus) == (4, 1.0)


# --- what is said of wrong ones ---


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gateway", "settings file jetray.toml is not TOML: "),
        ("[gatway]", "jetray.toml: there is no section gatway (did you mean gateway?)"),
        ("[xyz]", "jetray.toml: there is no section xyz"),
        ("gateway = 3", "jetray.toml: setting gateway: expected `object`, got `int`"),
        ("[gateway]\nack_wait = 3", "jetray.toml: gateway has no ack_wait (did you mean ack_wait_s?)"),
        ('[gateway]\nack_wait_s = "3"', "jetray.toml: setting gateway.ack_wait_s: expected `float`, got `str`"),
        ("[gateway]\nack_wait_s = 0", "jetray.toml: setting gateway.ack_wait_s: expected `float` > 0.0"),
        ("[streams]\nreplicas = 7", "jetray.toml: setting streams.replicas: expected `int` <= 5"),
        ("[retry]\nmax_lost = -1", "jetray.toml: setting retry.max_lost: expected `int` >= 0"),
        ('[[routes]]\nsubject = "a"', "jetray.toml: setting routes[0]: object missing required field `kind`"),
        (
            '[[routes]]\nsubject = "a"\nkind = "plan"\n[[routes]]\nsubject = "b"\nkind = "plan"\ndeliver = "last"',
            "jetray.toml: setting routes[1].deliver: invalid enum value 'last'",
        ),
        ("[kinds]\nmodules = [3]", "jetray.toml: setting kinds.modules[0]: expected `str`, got `int`"),
        ("[profiles.ok]\n[profiles.gpu]\nactors = 0", "jetray.toml: setting profiles.gpu.actors: expected `int` >= 1"),
        ("[profiles.gpu]\nactor = 1", "jetray.toml: profiles.gpu has no actor (did you mean actors?)"),
        (
            "[kinds.settings.score]\nmax_attempts = 0",
            "jetray.toml: setting kinds.settings.score.max_attempts: expected `int` >= 1",
        ),
        ("[councils.DEV.rubric]\nbad = -1.0", "jetray.toml: setting councils.DEV.rubric.bad: expected `float` > 0.0"),
        (
            '[councils.DEV.rubric]\n"" = 1.0',
            "jetray.toml: setting councils.DEV.rubric: a key of it: expected `str` of length >= 1",
        ),
        ('[plan]\nroles = ["A", "A"]', "jetray.toml: setting plan: roles names 'A' twice"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_setting(text, line, here):
    assert refusal(text).startswith(line)
    assert "\n" not in refusal(text)


def test_a_file_that_is_no_text_is_told(here):
    Path("jetray.toml").write_bytes(b"\xff")

    with pytest.raises(BadSettings, match="is not TOML: 'utf-8' codec"):
        load(None, {})


@pytest.mark.parametrize(
    ("variable", "text", "line"),
    [
        ("JETRAY_GATEWAY_ACK_WAIT", "3", "[gateway] has no ack_wait (did you mean ack_wait_s?)"),
        ("JETRAY_GATEWAY_ACK_WAIT_S", "soon", "expected `float`, got `str`"),
        ("JETRAY_GATEWAY_ACK_WAIT_S", "0", "expected `float` > 0.0"),
        ("JETRAY_GATWAY_ACK_WAIT_S", "3", "there is no section gatway (did you mean gateway?)"),
        ("JETRAY_GATEWAY", "3", "[gateway] is a section; name one of its settings"),
        ("JETRAY_ROUTES", "a", "routes is set in the settings file alone"),
        ("JETRAY_COUNCILS_DEV_MODEL", "a", "councils is set in the settings file alone"),
        ("JETRAY_COUNCIL_RUBRIC", "a", "council.rubric is set in the settings file alone"),
        ("JETRAY_COUNCIL_AGENTS", "a", "council.agents is set in the settings file alone"),
        ("JETRAY_PROVIDERS_OPENAI_BASE", "a", "[providers.openai] has no base (did you mean base_url?)"),
    ],
)
def test_a_wrong_variable_is_one_line_that_names_it(variable, text, line, here):
    assert refusal("", **{variable: text}) == f"environment variable {variable}: {line}"


def test_what_only_the_environment_spoils_is_said_of_it(here):
    assert refusal("", JETRAY_PLAN_ROLES="A,A") == "environment: setting plan: roles names 'A' twice"


def test_a_variable_for_a_section_that_is_none_leaves_the_word_to_the_file(here):
    assert refusal("nats = 3", NATS_URL="nats://x") == "jetray.toml: setting nats: expected `object`, got `int`"


# --- whether they fit together ---


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[gateway]\nname = "a.b"', "setting gateway.name: 'a.b' is not a token of A-Z a-z 0-9 _ -"),
        ('[nats]\nurl = ""', "setting nats.url: not nats://host:port, or several of them with commas"),
        ('[nats]\nurl = "http://u@host"', "setting nats.url: not nats://host:port, or several of them with commas"),
        ('[nats]\nurl = "http://host"', "setting nats.url: not nats://host:port, or several of them with commas"),
        (
            '[nats]\nurl = "nats://a,,nats://b"',
            "setting nats.url: not nats://host:port, or several of them with commas",
        ),
        ("[watermarks]\nlow = 1000", "setting watermarks.low must be below watermarks.high"),
        (
            "[kinds.settings.plan]\nhigh = 10\nlow = 10",
            "setting kinds.settings.plan: kinds.settings.plan.low is 10 and must be below kinds.settings.plan.high, "
            "which is 10",
        ),
        (
            "[profiles.p]\nactors = 2\nmin_actors = 3",
            "setting profiles.p.min_actors must not be above profiles.p.actors",
        ),
        (
            "[kinds.settings.plan]\nhigh = 200",
            "setting kinds.settings.plan: watermarks.low is 250 and must be below kinds.settings.plan.high, "
            "which is 200",
        ),
        (
            "[kinds.settings.plan]\nlow = 1000",
            "setting kinds.settings.plan: kinds.settings.plan.low is 1000 and must be below watermarks.high, "
            "which is 1000",
        ),
        (
            "[kinds.settings.plan]\nburst = 3",
            "setting kinds.settings.plan.burst says nothing without kinds.settings.plan.rate",
        ),
        (
            '[kinds.settings.plan]\nkey = "story_id"',
            "setting kinds.settings.plan: set both key and max_running_per_key, or neither",
        ),
        (
            "[kinds.settings.plan]\nmax_running_per_key = 2",
            "setting kinds.settings.plan: set both key and max_running_per_key, or neither",
        ),
        ("[retry]\nbase_s = 400", "setting retry.base_s must not be above retry.cap_s"),
        (
            "[streams]\nevents_max_age_s = 3600",
            "setting gateway.batch_deadline_s is 86400 s, more than half of streams.events_max_age_s (1800 s): "
            + TOO_LONG,
        ),
        (
            "[gateway]\ndeadline_s = 129601",
            "setting gateway.deadline_s is 129601 s, more than half of streams.events_max_age_s (129600 s): "
            + TOO_LONG,
        ),
        (
            "[retry]\ncap_s = 129601",
            "setting retry.cap_s is 129601 s, more than half of streams.events_max_age_s (129600 s): " + TOO_LONG,
        ),
        (
            "[kinds.settings.plan]\ndeadline_s = 129601",
            "setting kinds.settings.plan.deadline_s is 129601 s, more than half of streams.events_max_age_s "
            "(129600 s): " + TOO_LONG,
        ),
        (
            "[kinds.settings.plan]\nretry_cap_s = 129601",
            "setting kinds.settings.plan.retry_cap_s is 129601 s, more than half of streams.events_max_age_s "
            "(129600 s): " + TOO_LONG,
        ),
        (
            "[kinds.settings.plan]\nretry_base_s = 301",
            "setting kinds.settings.plan.retry_base_s must not be above retry.cap_s",
        ),
        (
            "[kinds.settings.plan]\nretry_base_s = 30\nretry_cap_s = 10",
            "setting kinds.settings.plan.retry_base_s must not be above kinds.settings.plan.retry_cap_s",
        ),
        ('[kinds.settings.score]\nprofile = "gpu"', "setting kinds.settings.score.profile: there is no [profiles.gpu]"),
        ("[council]\nquorum = 4", "setting council.quorum is 4, more than the 3 agents of council.num_agents"),
        (
            '[councils.DEV]\nprovider = "openai"',
            "setting councils.DEV.provider is openai and nothing names a model: "
            "set councils.DEV.model or providers.openai.model",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(text, line, here):
    assert refusal(text) == line


def test_a_log_may_be_forgotten_soon_where_jobs_are_short(here):
    assert loaded("[streams]\nevents_max_age_s = 1200\n[gateway]\nbatch_deadline_s = 600").gateway.deadline_s == 600.0


@pytest.mark.parametrize("subject", ["", "a..b", "a b", "a.>.b", "a.\tb", ".a"])
def test_what_is_no_subject_cannot_be_routed(subject):
    with pytest.raises(BadSettings, match="is not a subject"):
        check(routed(Route(subject=subject, kind="plan")))


@pytest.mark.parametrize("subject", ["jobs.plan", "control.drain.a", "$KV.kinds.plan", ">", "*.approved"])
def test_what_is_no_domains_subject_cannot_be_routed(subject):
    with pytest.raises(BadSettings, match="cannot be routed"):
        check(routed(Route(subject=subject, kind="plan")))


def test_two_routes_need_two_names():
    twice = Route(subject="a.b", kind="plan")

    with pytest.raises(BadSettings, match=r"^setting routes: a\.b needs a name of its own"):
        check(routed(twice, twice))
    check(routed(twice, msgspec.structs.replace(twice, name="again")))


def test_a_route_whose_name_is_no_token_is_refused():
    with pytest.raises(BadSettings, match="needs a name of its own, a token"):
        check(routed(Route(subject="a.b", kind="plan", name="a b")))


def test_a_durable_consumer_is_named_after_its_route():
    assert Route(subject="planning.plan.approved", kind="plan").durable == "jetray-planning-plan-approved"
    assert Route(subject="planning.plan.approved", kind="plan", name="plans").durable == "jetray-plans"


def test_the_gateway_is_named_after_its_host(monkeypatch, here):
    monkeypatch.setattr(platform, "node", lambda: "my.host.example")
    assert load(None, {}).gateway.name == "my-host-example"

    monkeypatch.setattr(platform, "node", lambda: "")
    assert load(None, {}).gateway.name == "gateway"

    monkeypatch.setattr(platform, "node", lambda: "x" * 500)
    assert is_token(load(None, {}).gateway.name)


@pytest.mark.parametrize("url", ["host", "nats://u:p/q@host:1", "tls://a:1, nats://b", "wss://host/path", "[::1]:4222"])
def test_servers_may_be_named_in_many_ways(url, here):
    assert loaded("", NATS_URL=url).nats.url == url


# --- whether they fit the kinds ---


class Limit(Struct):
    letters: int


@job("plain")
def plain(text: str) -> str:
    return text


class Wide:
    def __init__(self, limit: Limit) -> None:
        self.limit = limit

    def run(self, text: str) -> str:
        return text[: self.limit.letters]


wide = job("wide", profile="wide")(Wide)


def of_kinds(text: str, *kinds: Kind) -> str:
    settings = loaded(text)
    with pytest.raises(BadSettings) as refused:
        check_kinds(msgspec.structs.replace(settings, routes=settings.routes[1:]), {kind.name: kind for kind in kinds})
    return str(refused.value)


def test_a_route_to_a_kind_that_nobody_knows_is_refused():
    with pytest.raises(BadSettings, match=r"a\.b starts score, and there is no such kind \(plain\)"):
        check_kinds(routed(Route(subject="a.b", kind="score")), {"plain": plain})


def test_settings_of_a_kind_that_nobody_knows_are_refused(here):
    line = of_kinds("[kinds.settings.score]\nmax_attempts = 1", plain)

    assert line == "setting kinds.settings.score: there is no such kind (plain); see kinds.modules"


def test_a_kind_needs_its_profile(here):
    line = of_kinds("", wide)

    assert line == "kind wide wants profile wide: add [profiles.wide], or set kinds.settings.wide.profile"


def test_another_profile_will_do(here):
    settings = loaded('[kinds.settings.wide]\nprofile = "default"\nconfig = { letters = 3 }')

    check_kinds(msgspec.structs.replace(settings, routes=[]), {"wide": wide})


def test_a_kinds_own_settings_are_checked(here):
    assert (
        of_kinds('[profiles.wide]\n[kinds.settings.wide.config]\nletters = "many"', wide)
        == "setting kinds.settings.wide.config: Expected `int`, got `str` - at `$.letters`"
    )
    assert (
        of_kinds("[kinds.settings.plain.config]\nletters = 3", plain)
        == "setting kinds.settings.plain.config: this kind takes no settings"
    )


@pytest.mark.parametrize(("kind", "section"), [("plan", "[plan]"), ("deliberation", "[council], [councils] and [prov")])
def test_kinds_that_ship_have_sections_of_their_own(kind, section, here):
    settings = loaded(f"[kinds.settings.{kind}.config]\nroles = 3")

    with pytest.raises(BadSettings) as refused:
        check_kinds(msgspec.structs.replace(settings, routes=[]), {kind: plain})
    assert f"the settings of this kind are {section}" in str(refused.value)


def test_offline_councils_are_told_by_their_sections(here):
    settings = loaded('[council]\nmodel = "m"\n[councils.DEV]\nprovider = "openai"\n[councils.QA]\nrounds = 2')

    assert settings.offline_councils() == ["council", "councils.QA"]


def test_the_stream_of_a_route_is_made_for_planning_alone():
    assert owns_planning("planning.plan.approved")
    assert not owns_planning("planningx.plan.approved")
    assert not owns_planning("design.plan.approved")


def routed(*routes: Route) -> Settings:
    settings = Settings(routes=list(routes))
    return msgspec.structs.replace(settings, gateway=msgspec.structs.replace(settings.gateway, name="gw-1"))


# --- on what terms a kind runs ---


@job("own", profile="wide", attempt_deadline=60, max_attempts=4, max_lost=1, retry_base=2, retry_cap=20)
def own(text: str) -> int:
    return 1


@job("eager", profile="wide", retry_base=1_000, retry_cap=10_000, max_lost=0)
def eager(text: str) -> int:
    return 1


def test_a_kinds_own_terms_hold_within_the_operators():
    assert terms.attempt_deadline_s(Settings(), own) == 60
    assert terms.policy(Settings(), own) == RetryPolicy(max_attempts=4, max_lost=1, base_s=2, cap_s=20)
    assert terms.attempt_deadline_s(Settings(), eager) is None
    assert terms.policy(Settings(), eager) == RetryPolicy(max_attempts=3, max_lost=0, base_s=300, cap_s=300)


def test_what_the_operator_says_of_a_kind_counts_instead(here):
    settings = loaded(
        "[kinds.settings.own]\nattempt_deadline_s = 5\nmax_attempts = 1\nmax_lost = 0\nretry_base_s = 600\n"
        "retry_cap_s = 6000"
    )
    assert terms.attempt_deadline_s(settings, own) == 5
    assert terms.policy(settings, own) == RetryPolicy(max_attempts=1, max_lost=0, base_s=600, cap_s=6000)


def test_a_batch_has_no_deadline_for_its_attempts(here):
    plan = load_kinds([])["plan"]
    line = "setting kinds.settings.plan.attempt_deadline_s: plan is a batch kind, and ends with its children: "
    assert of_kinds("[kinds.settings.plan]\nattempt_deadline_s = 5", plan) == line + "set deadline_s"


@pytest.mark.parametrize("key", ["story_id", "roles"])
def test_a_key_is_a_field_of_the_input(key):
    check_kinds(limited_to("plan", key), load_kinds([]))


@pytest.mark.parametrize("key", ["constraints.metadata.anything", "constraints.story_id", "rubric.quality"])
def test_a_key_may_lie_under_others(key):
    check_kinds(limited_to("deliberation", key), load_kinds([]))


@pytest.mark.parametrize("key", ["story", "story_id.more", "constraints.story", ".", "rubric.quality.more"])
def test_a_key_that_the_input_does_not_have_is_refused(key):
    with pytest.raises(
        BadSettings, match=r"^setting kinds\.settings\.deliberation\.key: the input of deliberation has"
    ):
        check_kinds(limited_to("deliberation", key), load_kinds([]))


def limited_to(kind, key):
    return Settings(kinds=Kinds(settings={kind: KindSettings(key=key, max_running_per_key=1)}))


# --- where files are ---


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[storage]\nroot = "/srv/files"', "setting storage.root: '/srv/files' is no URI, as file:///srv/files"),
        ('[storage]\nroot = "file://srv"', "setting storage.root: 'file://srv' is no absolute path"),
        (
            '[storage]\nroot = "http://h/a"',
            "setting storage.root: 'http://h/a' must begin with nats://, file://, s3://",
        ),
        ('[storage]\nroot = "s3://me:key@bucket"', "setting storage.root: 's3://me:key@bucket' has '@' in it"),
        ('[storage]\nroot = "file:///"', "setting storage.root: not the root directory itself"),
        (
            '[storage]\nroot = "file:///srv"\n[ray]\naddress = "head:6379"',
            "setting storage.root: jobs run on several nodes, and file:// is one node's",
        ),
        (
            '[workspaces]\ninputs = ["s3://data", "file:///a/../b"]',
            "setting workspaces.inputs: 'file:///a/../b' has a part that is empty, . or ..",
        ),
        ('[workspaces]\nbase = "work"', "setting workspaces.base must be an absolute path"),
    ],
)
def test_places_that_cannot_be_are_refused(text, line, here):
    with pytest.raises(BadSettings) as refused:
        loaded(text)
    assert str(refused.value).startswith(line)


def test_files_may_be_shared_by_nodes(here):
    settings = loaded(
        '[storage]\nroot = "file:///srv"\nshared = true\n[ray]\naddress = "head:6379"',
        JETRAY_WORKSPACES_INPUTS="s3://data, file:///srv/in",
        JETRAY_WORKSPACES_KEEP_FAILED="true",
    )
    assert settings.workspaces.inputs == ["s3://data", "file:///srv/in"]
    assert settings.workspaces.keep_failed


def test_files_are_kept_in_the_object_store_unless_said_otherwise(here):
    assert loaded("").storage.root == "nats://artifacts"
