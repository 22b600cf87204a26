"""`KindHost`: every way in which a job can end, and what it leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import msgspec
import pytest
import trio.testing
from msgspec import Struct

from contracts.calls import Emitted, Raised, Reported, Returned, Tracked, TrackingFailed
from contracts.errors import MESSAGE_BYTES
from infra.store.base import StoreError
from infra.store.memory import MemoryFiles, MemoryStore
from tests.kinds.files import Attempt
from tests.kinds.helpers import Heard, call, error_of, host_of
from workers import Fail, JobContext, Retry, job
from workers.hosting import Depot, build
from workers.kinds.context import Places
from workers.kinds.host import KindHost
from workers.kinds.registry import Kind, KindError
from workers.kinds.workspaces import Workspaces

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Out(Struct, frozen=True):
    score: float
    label: str = "x"


class Settings(Struct, frozen=True):
    limit: int = 3


def kind_of(target: Any, name: str = "k") -> Kind:
    return job(name)(target)


async def run(target: Any, value: Any = 1, *, timeout_s: float = 60.0, heard: Heard | None = None) -> Any:
    host = host_of(kind_of(target))
    return await host.execute(call("k", value, timeout_s=timeout_s), heard or Heard())


# --- results


def doubled(value: int) -> int:
    return value * 2


async def doubled_async(value: int) -> int:
    await anyio.lowlevel.checkpoint()
    return value * 2


def doubled_in_thread(ctx: JobContext, value: int) -> int:
    assert threading.current_thread() is not threading.main_thread()
    return value * 2


@pytest.mark.parametrize("target", [doubled, doubled_async, doubled_in_thread])
async def test_a_result_is_returned_as_json(target: Any):
    assert await run(target, 21) == Returned(result=b"42")


async def test_results_of_many_shapes_fit_a_struct():
    class Like:
        score = 0.5
        label = "from attributes"

    def given(value: int) -> Out:
        return cast(Out, [{"score": 1}, Out(2.0), Like()][value])

    assert (await run(given, 0)).result == b'{"score":1.0,"label":"x"}'
    assert (await run(given, 1)).result == b'{"score":2.0,"label":"x"}'
    assert (await run(given, 2)).result == b'{"score":0.5,"label":"from attributes"}'


class Nested(Struct, frozen=True):
    metrics: dict[str, Any]


def recursive() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("result", "declared", "path"),
    [
        ({"score": "high"}, Out, "$.score"),
        (Out(score="high"), Out, "$.score"),  # type: ignore[arg-type]
        (Out(score=float("nan")), Out, "$.score"),
        (Out(score=1.0, label="\ud800"), Out, "$.label"),
        ({}, Out, "missing required field `score`"),
        (None, Out, "got `null`"),
        (Nested({"loss": object()}), Nested, "$.metrics['loss']"),
        (Nested({"all": [1, {2: object()}]}), Nested, "$.metrics['all'][1][2]"),
        ({"loss": object()}, dict[str, float], "$['loss']"),
        (recursive(), dict[str, Any], "$"),
    ],
)
async def test_a_result_that_does_not_fit_fails_with_its_path(result: Any, declared: Any, path: str):
    def given(value: int) -> Any:
        return result

    given.__annotations__["return"] = declared
    error = error_of(await run(given))
    assert (error.reason, error.type, error.retryable) == ("user", "BadResult", False)
    assert error.message.startswith("the result does not fit the kind's result type: ")
    assert path in error.message
    assert error.message.count(" - at `") <= 1


async def test_an_input_that_does_not_fit_is_the_jobs_error():
    error = error_of(await run(doubled, "x"))
    assert (error.reason, error.type) == ("user", "ValidationError")


# --- errors


def in_three_ways(error: BaseException) -> list[Any]:
    def short(value: int) -> int | Retry | Fail:
        raise error

    async def asynchronous(value: int) -> int | Retry | Fail:
        raise error

    def threaded(ctx: JobContext, value: int) -> int | Retry | Fail:
        raise error

    async def grouped(value: int) -> int | Retry | Fail:
        async def raising() -> None:
            raise error

        async with anyio.create_task_group() as group:
            group.start_soon(raising)
        return 1

    return [short, asynchronous, threaded, grouped]


@pytest.mark.parametrize("way", range(4))
async def test_what_a_job_raises(way: int):
    retry = await run(in_three_ways(Retry("busy", after=2.5))[way])
    assert retry.retry_after_s == 2.5
    assert (retry.error.reason, retry.error.type, retry.error.retryable) == ("user", "Retry", True)
    assert retry.error.message == "busy"

    fail = await run(in_three_ways(Fail("no", reason="dependency"))[way])
    assert fail.retry_after_s is None
    assert (fail.error.reason, fail.error.type, fail.error.retryable) == ("dependency", "Fail", False)

    user = await run(in_three_ways(LookupError("gone"))[way])
    assert (user.error.reason, user.error.type, user.error.retryable) == ("user", "LookupError", True)
    assert user.error.message == "gone"


@pytest.mark.parametrize("way", range(3))
@pytest.mark.parametrize("exit_", [SystemExit("3"), KeyboardInterrupt("3")])
async def test_leaving_the_process_is_an_error_like_any_other(way: int, exit_: BaseException):
    error = error_of(await run(in_three_ways(exit_)[way]))
    assert (error.reason, error.type, error.message) == ("user", type(exit_).__name__, "3")


async def test_what_a_job_returns_to_say_no():
    def given(value: int) -> int | Retry | Fail:
        return Fail("never") if value else Retry("later", after=1.0)

    later, never = await run(given, 0), await run(given, 1)
    assert (later.error.type, later.error.retryable, later.retry_after_s) == ("Retry", True, 1.0)
    assert (never.error.type, never.error.retryable, never.error.reason) == ("Fail", False, "user")


async def test_messages_are_bounded_and_never_empty():
    def long(value: int) -> int:
        raise ValueError("é" * 5000)

    def silent(value: int) -> int:
        raise ValueError

    assert len(error_of(await run(long)).message.encode()) <= MESSAGE_BYTES
    assert error_of(await run(silent)).message == "ValueError"


async def test_several_errors_at_once_stay_a_group():
    async def both(value: int) -> int:
        raise ExceptionGroup("two", [ValueError("a"), ValueError("b")])

    assert error_of(await run(both)).type == "ExceptionGroup"


# --- classes


async def test_a_class_is_built_once_and_with_its_settings():
    built = []

    @job("k")
    class Limited:
        def __init__(self, settings: Settings) -> None:
            built.append(settings)

        async def run(self, ctx: JobContext, value: int) -> int:
            return value * built[0].limit

    host = host_of(Limited, k={"limit": 7})
    assert await host.execute(call("k", 3), Heard()) == Returned(result=b"21")
    assert await host.execute(call("k", 4), Heard()) == Returned(result=b"28")
    assert built == [Settings(limit=7)]


async def test_settings_that_do_not_fit_are_the_operators():
    @job("k")
    class Limited:
        def __init__(self, settings: Settings) -> None: ...

        def run(self, value: int) -> int:
            return 1

    error = error_of(await host_of(Limited, k={"limit": "x"}).execute(call("k", 1), Heard()))
    assert (error.reason, error.type, error.retryable) == ("config", "KindError", False)
    assert "$.limit" in error.message


async def test_a_host_is_built_from_json():
    host = build(b'{"kinds":{"plan":{"roles":["DEV"]}}}')
    assert host.cancel("deliberation.T1") is False
    with pytest.raises(KindError, match="cannot be imported"):
        build(b'{"modules":["no_such_module"]}')


# --- frames


async def test_frames_are_sent_from_the_loop():
    heard_in = []

    class Listening(Heard):
        def __call__(self, frame: Any) -> None:
            heard_in.append(threading.current_thread())
            super().__call__(frame)

    def threaded(ctx: JobContext, value: int) -> None:
        ctx.progress(done=1, total=2, step="half")
        ctx.emit("response.progress", {"a": 1})

    async def asynchronous(ctx: JobContext, value: int) -> None:
        ctx.progress(done=1, total=2, step="half")
        ctx.emit("response.progress", {"a": 1})

    for target in (threaded, asynchronous):
        heard = Listening()
        await run(target, heard=heard)
        assert heard.frames == [
            Reported(done=1, total=2, step="half"),
            Emitted(topic="response", name="progress", body=b'{"a":1}'),
        ]
    assert set(heard_in) == {threading.current_thread()}


async def test_an_event_has_two_tokens():
    def given(ctx: JobContext, value: str) -> None:
        ctx.emit(value, {})

    for bad in ("one", "a.b.c", "a.>", ".b"):
        assert error_of(await run(given, bad)).type == "BadToken"


async def test_the_context_tells_of_its_job():
    told: dict[str, Any] = {}

    async def given(ctx: JobContext, value: int) -> None:
        names = ("kind", "job_id", "run", "attempt", "correlation_id", "traceparent", "cancelled")
        told.update({name: getattr(ctx, name) for name in names})
        told["remaining"] = ctx.remaining_s
        told["repr"] = repr(ctx)

    await run(given, timeout_s=50.0)
    remaining = told.pop("remaining")
    assert 0 < remaining <= 50
    assert told == {
        "kind": "k",
        "job_id": "T1",
        "run": 1,
        "attempt": 1,
        "correlation_id": "",
        "traceparent": None,
        "cancelled": False,
        "repr": "JobContext(k.T1, run 1, attempt 1)",
    }


# --- workspace


async def test_a_workspace_is_fresh_and_goes_with_its_attempt():
    seen: list[Path] = []

    async def given(ctx: JobContext, value: int) -> None:
        assert ctx.workspace is ctx.workspace
        assert sorted(path.name for path in ctx.workspace.rglob("*")) == ["input", "output"]
        (ctx.workspace / "deep").mkdir()
        (ctx.workspace / "deep" / "file").write_text("x")
        seen.append(ctx.workspace)
        if value:
            raise ValueError("no")

    await run(given, 0)
    await run(given, 1)
    assert len(set(seen)) == 2
    assert not any(path.exists() for path in seen)


def globbed(base: Path, pattern: str) -> list[Path]:
    return [*base.glob(pattern)]


def leaks(ctx: JobContext, value: str) -> dict[str, str]:
    path = str(ctx.workspace / "output" / "x")
    match value:
        case "error":
            raise ValueError(f"cannot read {path}")
        case "file":
            Path(path).read_bytes()
        case "fail":
            raise Fail(f"no {path}")
        case "retry":
            raise Retry(f"no {path}")
        case "long":
            raise ValueError("x" * (MESSAGE_BYTES - 40) + path)
        case "bad result":
            return cast(dict[str, str], {path: object()})
    ctx.progress(message=f"writing {path}", step=path)
    ctx.emit("response.progress", {"path": path})
    return {"path": path}


@pytest.mark.parametrize("how", ["error", "file", "fail", "retry", "long", "bad result", "result"])
@pytest.mark.parametrize("is_async", [True, False])
async def test_nothing_that_a_job_says_tells_where_its_workspace_was(how: str, is_async: bool, tmp_path: Path):
    async def leaking(ctx: JobContext, value: str) -> dict[str, str]:
        return leaks(ctx, value)

    heard = Heard()
    places = Places(workspaces=Workspaces(str(tmp_path / "whereabouts")))
    host = KindHost({"k": kind_of(leaking if is_async else leaks)}, {}, places)
    outcome = await host.execute(call("k", how), heard)
    told = b"".join(map(msgspec.msgpack.encode, [outcome, *heard.frames]))
    assert b"whereabouts" not in told
    assert told.count(b"<workspace>") == (4 if how == "result" else 1)


@pytest.mark.parametrize(
    ("how", "kept"), [("returns", 0), ("raises", 1), ("retries", 1), ("fits not", 1), ("is late", 1), ("is stopped", 0)]
)
@pytest.mark.parametrize("is_async", [True, False])
async def test_what_failed_is_kept_where_that_is_wanted(how: str, kept: int, is_async: bool, tmp_path: Path):
    started = threading.Event()

    def act(ctx: JobContext) -> int:
        (ctx.workspace / "output" / "file").write_text("x")
        match how:
            case "raises":
                raise ValueError("no")
            case "retries":
                raise Retry("later")
            case "fits not":
                return cast(int, "text")
        return 1

    def threaded(ctx: JobContext, value: int) -> int:
        result = act(ctx)
        started.set()
        while how in ("is late", "is stopped") and not ctx.cancelled:
            threading.Event().wait(0.005)
        return result

    async def asynchronous(ctx: JobContext, value: int) -> int:
        result = act(ctx)
        started.set()
        if how in ("is late", "is stopped"):
            await anyio.sleep_forever()
        return result

    places = Places(workspaces=Workspaces(str(tmp_path), keep_failed=True))
    host = KindHost({"k": kind_of(asynchronous if is_async else threaded)}, {}, places)
    async with anyio.create_task_group() as group:
        group.start_soon(host.execute, call("k", 1, timeout_s=0.2 if how == "is late" else 60.0), Heard())
        if how == "is stopped":
            await anyio.to_thread.run_sync(started.wait)
            assert host.cancel("k.T1")
    assert len(globbed(tmp_path, "jetray-kept-k.T1.1.1-*/output/file")) == kept
    assert globbed(tmp_path, "jetray-work-*/*/") == []


async def test_nothing_is_made_for_a_job_that_asks_for_nothing(tmp_path: Path):
    async def given(ctx: JobContext, value: int) -> int:
        ctx.progress(done=1)
        return value

    def failing(value: int) -> int:
        raise ValueError("no")

    for target in (given, doubled, failing):
        host = KindHost({"k": kind_of(target)}, {}, Places(workspaces=Workspaces(str(tmp_path))))
        await host.execute(call("k", 1), Heard())
    assert globbed(tmp_path, "*") == []


async def test_an_async_job_stages_and_tracks_in_threads(tmp_path: Path):
    attempts: list[Attempt] = [Attempt(tmp_path)]
    attempts[0].store.kept["memory://root/a"] = b"one"
    heard_in = []

    class Listening(Heard):
        def __call__(self, frame: Any) -> None:
            heard_in.append(threading.current_thread())
            super().__call__(frame)

    async def given(ctx: JobContext, value: int) -> str:
        folder = await anyio.to_thread.run_sync(ctx.stage, {"a": "memory://root/a"})
        (ctx.workspace / "output" / "b").write_bytes((folder / "a").read_bytes() * 2)
        commit = await anyio.to_thread.run_sync(ctx.track)
        assert commit is not None
        assert commit.bytes == 6
        return commit.commit

    heard = Listening()
    places = Places(workspaces=Workspaces(str(tmp_path)), storage=attempts[0].depot)
    outcome = await KindHost({"k": kind_of(given)}, {}, places).execute(call("k", 1), heard)
    assert isinstance(outcome, Returned)
    (told,) = heard.frames
    assert isinstance(told, Tracked)
    assert msgspec.json.decode(outcome.result) == told.commit
    assert heard_in == [threading.current_thread()]


@pytest.mark.parametrize(
    ("uri", "reason", "kind", "retryable"),
    [
        ("memory://root/missing", "storage", "Fail", False),
        ("file:///etc/passwd", "config", "Fail", False),
        ("memory://root/a", "storage", "StorageError", True),
    ],
)
async def test_what_cannot_be_staged_ends_the_attempt(
    tmp_path: Path, uri: str, reason: str, kind: str, retryable: bool
):
    class Down(MemoryFiles):
        def fetch(self, uri: str, into: Any) -> None:
            if uri.endswith("a"):
                raise StoreError("it does not answer")
            super().fetch(uri, into)

    def given(ctx: JobContext, value: int) -> None:
        ctx.stage({"a": uri})

    storage = Depot("memory://root", [], lambda root: Down(MemoryStore(), root), patience_s=0)
    places = Places(workspaces=Workspaces(str(tmp_path)), storage=storage)
    error = error_of(await KindHost({"k": kind_of(given)}, {}, places).execute(call("k", 1), Heard()))
    assert (error.reason, error.type, error.retryable) == (reason, kind, retryable)


async def test_a_host_without_storage_says_so(tmp_path: Path):
    def given(ctx: JobContext, value: int) -> None:
        assert ctx.track() is None
        ctx.stage({"a": "memory://root/a"})

    heard = Heard()
    error = error_of(await run(given, heard=heard))
    assert (error.reason, error.message) == (
        "config",
        "input 'a' cannot be staged: there is no storage root where this job runs",
    )
    (told,) = heard.frames
    assert isinstance(told, TrackingFailed)
    assert told.error.reason == "config"


# --- cancel


async def stopped_by(target: Any, started: Any, done: Any = None) -> tuple[Raised | Returned, bool]:
    """The outcome of a job that is cancelled once it has started."""
    host = host_of(kind_of(target))
    outcomes: list[Any] = []

    async def execute() -> None:
        outcomes.append(await host.execute(call("k", 1), Heard()))

    async with anyio.create_task_group() as group:
        group.start_soon(execute)
        await anyio.to_thread.run_sync(started.wait) if isinstance(started, threading.Event) else await started.wait()
        cancelled = host.cancel("k.T1")
        if done is not None:
            done.set()
    assert host.cancel("k.T1") is False
    return outcomes[0], cancelled


CANCELLED: Mapping[str, Any] = {"reason": "user", "type": "Cancelled", "message": "the job was asked to stop"}


async def test_an_async_job_is_cancelled_where_it_waits():
    started, cleaned, workspaces = anyio.Event(), [], []

    async def endless(ctx: JobContext, value: int) -> None:
        (ctx.workspace / "file").write_text("x")
        workspaces.append(ctx.workspace)
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            assert ctx.cancelled
            cleaned.append("cleaned")

    outcome, cancelled = await stopped_by(endless, started)
    assert cancelled
    assert msgspec.structs.asdict(error_of(outcome)) == {**CANCELLED, "retryable": False}
    assert cleaned == ["cleaned"]
    assert not workspaces[0].exists()


async def test_a_sync_job_sees_that_it_should_stop():
    started, asked = threading.Event(), threading.Event()

    def cooperative(ctx: JobContext, value: int) -> str:
        started.set()
        asked.wait()
        assert ctx.cancelled
        return "half of it"

    outcome, cancelled = await stopped_by(cooperative, started, asked)
    assert cancelled
    assert error_of(outcome).type == "Cancelled"


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_error_after_the_stop_is_the_stops_doing(is_async: bool):
    async def failing(ctx: JobContext, value: int) -> int:
        started.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            raise RuntimeError("interrupted") from None
        return 1

    def failing_in_thread(ctx: JobContext, value: int) -> int:
        started.set()
        asked.wait()
        raise RuntimeError("interrupted")

    asked = threading.Event()
    started: Any = anyio.Event() if is_async else threading.Event()
    outcome, _ = await stopped_by(failing if is_async else failing_in_thread, started, asked)
    assert error_of(outcome).type == "Cancelled"


async def test_an_async_result_that_is_there_before_the_stop_counts():
    started, go_on = anyio.Event(), anyio.Event()

    async def finishing(ctx: JobContext, value: int) -> int:
        with anyio.CancelScope(shield=True):
            started.set()
            await go_on.wait()
        return 5

    outcome, cancelled = await stopped_by(finishing, started, go_on)
    assert cancelled
    assert outcome == Returned(result=b"5")


async def test_cancelling_the_host_itself_is_no_outcome():
    host, started, left = host_of(kind_of(endlessly)), anyio.Event(), []

    async def execute() -> None:
        try:
            await host.execute(call("k", 1), lambda frame: started.set())
        finally:
            left.append(host.cancel("k.T1"))

    async with anyio.create_task_group() as group:
        group.start_soon(execute)
        await started.wait()
        group.cancel_scope.cancel()
    assert left == [False]


async def endlessly(ctx: JobContext, value: int) -> None:
    ctx.progress(done=0)
    await anyio.sleep_forever()


# --- deadline


class TestDeadline:
    @pytest.fixture
    def anyio_backend(self) -> Any:
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}

    async def test_an_hour_passes(self):
        began = anyio.current_time()
        error = error_of(await run(endlessly, timeout_s=3600.0))
        assert (error.reason, error.type, error.retryable) == ("deadline", "DeadlineExceeded", False)
        assert anyio.current_time() - began == pytest.approx(3600)

    async def test_a_job_that_ends_a_minute_before_has_ended(self):
        async def patient(value: int) -> int:
            await anyio.sleep(3540)
            return 1

        assert await run(patient, timeout_s=3600.0) == Returned(result=b"1")

    async def test_a_job_that_turns_the_deadline_into_an_error(self):
        async def failing(value: int) -> int:
            try:
                await anyio.sleep_forever()
            except trio.Cancelled:
                raise RuntimeError("interrupted") from None
            return 1

        assert error_of(await run(failing, timeout_s=60.0)).reason == "deadline"

    async def test_a_jobs_own_timeout_is_its_own_error(self):
        async def hasty(value: int) -> int:
            with anyio.fail_after(5):
                await anyio.sleep_forever()
            return 1

        error = error_of(await run(hasty, timeout_s=60.0))
        assert (error.reason, error.type) == ("user", "TimeoutError")

    async def test_past_the_attempts_own_deadline_another_may_follow(self):
        host = host_of(kind_of(endlessly))
        own = msgspec.structs.replace(call("k", 1, timeout_s=60.0), attempt_deadline=True)
        error = error_of(await host.execute(own, Heard()))
        assert (error.reason, error.type, error.retryable) == ("deadline", "DeadlineExceeded", True)
        assert error.message == "the attempt did not end before its deadline"


async def test_a_thread_that_passes_its_deadline_has_failed():
    seen = []

    def cooperative(ctx: JobContext, value: int) -> str:
        while not ctx.cancelled:
            threading.Event().wait(0.005)
        seen.append(ctx.remaining_s)
        return "half of it"

    error = error_of(await run(cooperative, timeout_s=0.05))
    assert (error.reason, error.type) == ("deadline", "DeadlineExceeded")
    assert seen == [0.0]


# --- which errors are worth another attempt


class Refused(ConnectionError):
    pass


@pytest.mark.parametrize(
    ("options", "error", "retryable"),
    [
        ({}, ValueError("x"), True),
        ({"no_retry": (ValueError, KeyError)}, ValueError("x"), False),
        ({"no_retry": (ValueError, KeyError)}, UnicodeError("a ValueError, too"), False),
        ({"no_retry": (ValueError, KeyError)}, OSError("x"), True),
        ({"no_retry": KeyError}, KeyError("x"), False),
        ({"retry_on": ConnectionError}, Refused("x"), True),
        ({"retry_on": (ConnectionError, TimeoutError)}, ValueError("x"), False),
        ({"retry_on": (OSError,), "no_retry": (FileNotFoundError,)}, FileNotFoundError("x"), False),
        ({"retry_on": (OSError,), "no_retry": (FileNotFoundError,)}, PermissionError("x"), True),
        ({"retry_on": ()}, ValueError("x"), False),
        ({"no_retry": SystemExit}, SystemExit(3), False),
        ({"no_retry": ValueError}, ExceptionGroup("one", [ValueError("x")]), False),
        ({"no_retry": ValueError}, ExceptionGroup("two", [OSError("x"), ValueError("x")]), False),
        ({"no_retry": ValueError}, ExceptionGroup("two", [OSError("x"), OSError("y")]), True),
        # What a kind says by value is its word, whatever its classes.
        ({"retry_on": ()}, Retry("busy"), True),
        ({"retry_on": Fail}, Fail("no"), False),
    ],
)
async def test_a_kind_says_which_errors_are_worth_another_attempt(
    options: dict[str, Any], error: BaseException, retryable: bool
):
    def given(value: int) -> int:
        raise error

    told = error_of(await host_of(job("k", **options)(given)).execute(call("k", 1), Heard()))
    assert (told.reason, told.retryable) == ("user", retryable)


# --- what outlives a job


async def test_a_kind_can_be_built_before_its_first_job():
    built = []

    @job("k")
    class Prepared:
        def __init__(self) -> None:
            built.append(1)

        def run(self, value: int) -> int:
            return len(built)

    host = host_of(Prepared)
    host.prepare(call("k", 1))
    assert built == [1]
    assert await host.execute(call("k", 1), Heard()) == Returned(result=b"1")


@pytest.mark.parametrize("error", [ValueError("no model"), SystemExit(3), KeyboardInterrupt()])
async def test_what_goes_wrong_then_is_the_jobs_outcome_and_no_later_ones(error: BaseException):
    built = []

    @job("k")
    class Late:
        def __init__(self) -> None:
            built.append(1)
            if len(built) == 1:
                raise error

        def run(self, value: int) -> int:
            return len(built)

    host = host_of(Late)
    host.prepare(call("k", 1))
    assert error_of(await host.execute(call("k", 1), Heard())).type == type(error).__name__
    assert await host.execute(call("k", 1), Heard()) == Returned(result=b"2")


# --- jobs that share a call


class Sharing:
    """Every job of it may share a call."""

    def company(self, value: str) -> str:
        return value

    def run(self, ctx: JobContext, value: str) -> str:
        match value:
            case "workspace":
                (ctx.workspace / "output" / "file").write_text("x")
                WORKED_IN.append(ctx.workspace)
            case "stage":
                return (ctx.stage({"a": "memory://root/a"}) / "a").read_text()
            case "track":
                ctx.track()
            case "say":
                ctx.progress(done=1)
                ctx.emit("response.progress", {})
        return value


WORKED_IN: list[Path] = []


async def in_company(host: KindHost, value: Any) -> Raised | Returned:
    """The outcome of a job that shares a call."""
    return await host.execute(msgspec.structs.replace(call("k", value), streams=False), never)


def never(frame: Any) -> None:
    raise AssertionError(f"it says {frame}")


async def test_in_company_files_are_where_the_host_has_them_and_nothing_is_left(tmp_path: Path):
    attempt = Attempt(tmp_path / "another")
    attempt.store.kept["memory://root/a"] = b"staged"
    places = Places(workspaces=Workspaces(str(tmp_path / "base")), storage=attempt.depot)
    host = KindHost({"k": kind_of(Sharing)}, {}, places)
    await in_company(host, "workspace")
    before = len(globbed(Path("/proc/self/fd"), "*"))
    for _ in range(3):
        assert await in_company(host, "workspace") == Returned(result=b'"workspace"')
        assert await in_company(host, "stage") == Returned(result=b'"staged"')
    assert all(path.is_relative_to(tmp_path / "base") for path in WORKED_IN[-4:])
    assert globbed(tmp_path, "base/jetray-work-*/*/") == []
    assert len(globbed(Path("/proc/self/fd"), "*")) == before


async def test_in_company_nothing_is_heard_and_what_had_to_be_is_an_error(tmp_path: Path):
    host = KindHost({"k": kind_of(Sharing)}, {}, Places(workspaces=Workspaces(str(tmp_path))))
    assert await in_company(host, "say") == Returned(result=b'"say"')
    error = error_of(await in_company(host, "track"))
    assert (error.reason, error.type, error.retryable) == ("config", "Fail", False)
    assert error.message == (
        "track: kind k lets this job share a call, and of such nothing is heard before its end; "
        "its method company must answer None for it"
    )


class TestOnAsyncio:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.mark.parametrize("start", [asyncio.run, lambda job: anyio.run(lambda: job)])
    async def test_a_job_that_blocks_the_loop_may_run_one_of_its_own(self, start: Any):
        async def own() -> bool:
            await anyio.sleep(0.001)
            async with asyncio.TaskGroup() as group:
                return await group.create_task(asyncio.sleep(0.001, result=True))

        def given(value: bool) -> bool:
            if not value:
                raise ValueError("no")
            found: bool = start(own())
            return found

        @job("k")
        class Shares:
            def company(self, value: bool) -> str:
                return ""

            def run(self, ctx: JobContext, value: bool) -> bool:
                return given(value)

        for kind in (kind_of(given), Shares):
            task, host = asyncio.current_task(), host_of(kind)
            assert await in_company(host, True) == Returned(result=b"true")
            assert error_of(await in_company(host, False)).type == "ValueError"
            assert asyncio.current_task() is task
            async with asyncio.timeout(5):
                await asyncio.create_task(asyncio.sleep(0.001))


# --- threads that a job leaves behind


@pytest.mark.parametrize("streams", [True, False])
async def test_what_is_said_after_the_end_is_nobody_elses(streams: bool, tmp_path: Path):
    left: list[JobContext] = []

    async def leaving(ctx: JobContext, value: int) -> int:
        left.append(ctx)
        return value

    heard, host = Heard(), KindHost({"k": kind_of(leaving)}, {}, Places(workspaces=Workspaces(str(tmp_path))))
    await host.execute(msgspec.structs.replace(call("k", 1), streams=streams), heard)
    for say in (lambda: left[0].progress(done=1), lambda: left[0].emit("a.b", 1), left[0].track):
        say()
        await anyio.to_thread.run_sync(say)
    assert heard.frames == []


# --- what is said wrong


@pytest.mark.parametrize("after", [-1, -0.001, float("nan"), float("inf"), float("-inf")])
def test_an_after_that_nobody_can_wait_for(after: float):
    with pytest.raises(ValueError, match=r"Retry: after must be a number of seconds, 0 or more, not "):
        Retry("busy", after=after)


class Whole:
    """As other libraries have whole numbers of their own."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"done": -1}, "ValueError: progress: done must be a whole number, 0 or more, not -1"),
        ({"done": float("nan")}, "ValueError: progress: done must be a whole number, 0 or more, not nan"),
        ({"total": 2.5}, "ValueError: progress: total must be a whole number, 0 or more, not 2.5"),
        ({"total": 2**63}, "ValueError: progress: total must be a whole number, 0 or more, not 9223372036854775808"),
        ({"eta_ms": float("inf")}, "ValueError: progress: eta_ms must be a whole number, 0 or more, not inf"),
        ({"counts": {"a": -3}}, "ValueError: progress: counts['a'] must be a whole number, 0 or more, not -3"),
        ({"counts": [1]}, "TypeError: progress: counts must be a dict of names and numbers, not [1]"),
        ({"counts": {1: 1}}, "TypeError: progress: counts must be a dict of names and numbers, not {1: 1}"),
        ({"message": 3}, "TypeError: progress: message must be a text, not 3"),
        ({"step": b"x"}, "TypeError: progress: step must be a text, not b'x'"),
    ],
)
async def test_a_report_that_says_nothing_is_an_error_where_it_is_made(fields: dict[str, Any], words: str):
    async def given(ctx: JobContext, value: int) -> None:
        ctx.progress(**fields)

    heard = Heard()
    error = error_of(await run(given, heard=heard))
    assert f"{error.type}: {error.message}" == words
    assert heard.frames == []


async def test_whole_numbers_of_any_library_are_reported():
    async def given(ctx: JobContext, value: int) -> None:
        ctx.progress(done=cast(int, Whole()), counts={"a": cast(int, Whole())})

    heard = Heard()
    await run(given, heard=heard)
    assert heard.frames == [Reported(done=7, counts={"a": 7})]
