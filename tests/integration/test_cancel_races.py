"""Cancels against completions, and at every other moment: one wins, and everybody sees which."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from contracts import events, subjects
from contracts.events import Cancelled, Completed, Event, Started, event_name
from infra.bus import embedded
from infra.bus.nats import connect
from tests.checker import logs, read_all, violations
from tests.integration.cancels import SLOTS, answers, follow_ends, furnish, marks, proxy, settled, subscriber
from tests.integration.stack import Stack, stack

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.slow, pytest.mark.proof]

RACES: Final = 1_000
TAKES_S: Final = (0.05, 0.3)
SPREAD_S: Final = 0.02
"""How far from its job's completion a cancel is published, at most, either way."""


@pytest_asyncio.fixture
async def jetray(tmp_path: Path) -> AsyncIterator[Stack]:
    furnish(tmp_path)
    async with stack(tmp_path) as running:
        yield running


# --- against completion


class Race:
    """Cancels each job at about the moment at which it completes; what the test itself saw of it."""

    def __init__(self, jetray: Stack, rng: random.Random, group: asyncio.TaskGroup) -> None:
        self._jetray = jetray
        self._group = group
        self._rng = rng
        self._aim_s = 0.0
        """From when a job should be over to when its cancel is published: moved until both win as often."""
        self.takes_s: dict[str, float] = {}
        self.commands: dict[str, int] = {}
        self.live: defaultdict[str, list[str]] = defaultdict(list)
        """Job to the ends that a core subscriber saw."""
        self.all_over = asyncio.Event()

    async def submit(self, job_id: str) -> None:
        """Publish a job, which is cancelled once it was seen to start."""
        self.takes_s[job_id] = takes_s = self._rng.uniform(*TAKES_S)
        await self._jetray.publish("jobs.race", msgspec.json.encode({"id": job_id, "takes_s": takes_s}))

    async def started(self, message: Msg) -> None:
        """A core subscriber's callback."""
        self._group.create_task(self._cancel(events.decode(message.data).job_id))

    async def ended(self, message: Msg) -> None:
        """A core subscriber's callback: remembers, and takes better aim."""
        event = events.decode(message.data)
        self.live[event.job_id].append(event_name(event))
        self._aim_s += 0.0005 if isinstance(event, Cancelled) else -0.0005
        if len(self.live) == RACES:
            self.all_over.set()

    async def _cancel(self, job_id: str) -> None:
        await asyncio.sleep(self.takes_s[job_id] + self._aim_s + self._rng.uniform(-SPREAD_S, SPREAD_S))
        self.commands[job_id] = await self._jetray.publish(f"control.cancel.race.{job_id}", "")


@pytest.mark.ray
@pytest.mark.timeout(300)
async def test_of_a_thousand_cancels_and_completions_one_wins_each(jetray: Stack) -> None:
    await jetray.gateway(ray="local")
    names = [f"R{number}" for number in range(RACES)]
    async with subscriber(jetray.url) as client, asyncio.TaskGroup() as group:
        race = Race(jetray, random.Random(1), group)
        await client.subscribe("orchestration.race.started", cb=race.started)
        for end in ("completed", "cancelled"):
            await client.subscribe(f"orchestration.race.{end}", cb=race.ended)
        await client.flush()
        durable = group.create_task(follow_ends(jetray, RACES))
        for name in names:
            await race.submit(name)
        async with asyncio.timeout(200):
            await race.all_over.wait()
            kept = await durable
    said = await answers(jetray, race.commands.values())
    found = await logs(jetray.bus)
    assert violations(found, expected=[("race", name) for name in names]) == []
    split = Counter(event_name(found["race", name][-1]) for name in names)
    print(f"\nof {RACES} races: {dict(split)}, aim {race._aim_s * 1000:+.0f} ms")
    assert set(split) == {"completed", "cancelled"}
    assert min(split.values()) > RACES / 10, "both must win often, or nothing is shown"
    for name in names:
        over = found["race", name][-1]
        assert race.live[name] == [event_name(over)], f"{name}: a core subscriber saw {race.live[name]}"
        assert kept[name] == [over], f"{name}: a consumer saw {kept[name]}"
        assert said[race.commands[name]] == [_answer_to(over)]
    await _all_slots_are_free(jetray)


def _answer_to(end: Event) -> tuple[str, str]:
    if isinstance(end, Cancelled):
        return "control.done", f"cancelled while {end.stage}"
    return "control.refused", f"it has {event_name(end)} already"


async def _all_slots_are_free(jetray: Stack) -> None:
    """As many jobs as there are slots run side by side; and end, each by a cancel."""
    names = [f"S{number}" for number in range(SLOTS)]
    for name in names:
        await jetray.publish("jobs.patient", msgspec.json.encode({"id": name}))
    for name in names:
        await jetray.seen("patient", name, "started")
    commands = [await jetray.publish(f"control.cancel.patient.{name}", "") for name in names]
    for name in names:
        assert isinstance(await jetray.end("patient", name), Cancelled)
    assert Counter(map(tuple, (await answers(jetray, commands)).values())) == {
        (("control.done", "cancelled while running"),): SLOTS
    }


# --- at every other moment


async def test_at_every_other_moment_a_cancel_does_what_it_says(jetray: Stack, tmp_path: Path) -> None:
    count = 20
    await jetray.gateway()
    wanted: dict[int, tuple[str, str]] = {}

    async def cancel(kind: str, job_id: str, answer: str, detail: str) -> None:
        wanted[await jetray.publish(f"control.cancel.{kind}.{job_id}", "")] = (f"control.{answer}", detail)

    async def submit(kind: str, job_id: str, takes_s: float = 0) -> None:
        await jetray.publish(f"jobs.{kind}", msgspec.json.encode({"id": job_id, "takes_s": takes_s}))

    over = [f"over-{number}" for number in range(count)]
    for name in over:
        await submit("brief", name)
    for name in over:
        assert isinstance(await jetray.end("brief", name), Completed)
        await cancel("brief", name, "refused", "it has completed already")

    delayed = [f"delayed-{number}" for number in range(count)]
    for name in delayed:
        await submit("later", name, 2.0)
        await jetray.seen("later", name, "retrying")
        await cancel("later", name, "done", "cancelled while delayed")

    early = [f"early-{number}" for number in range(count)]
    for name in early:
        await cancel("brief", name, "done", "cancelled while queued")
        await answers(jetray, wanted)
        await submit("brief", name)

    # The one slot is taken: what comes now waits.
    await submit("patient", "holder")
    await jetray.seen("patient", "holder", "started")
    queued = [f"queued-{number}" for number in range(count)]
    for name in queued:
        await submit("brief", name)
        await cancel("brief", name, "done", "cancelled while queued")
    await answers(jetray, wanted)
    first, second = [await jetray.publish("control.cancel.patient.holder", "") for _ in range(2)]

    found = await settled(jetray)
    said = await answers(jetray, [*wanted, first, second])
    assert {command: [answer] for command, answer in wanted.items()} == {
        command: told for command, told in said.items() if command in wanted
    }
    assert all(len(said[command]) == 1 for command in (first, second))
    # Carried out side by side, both may say that it ran; the log has one end.
    assert {answer for command in (first, second) for answer in said[command]} - {
        ("control.done", "it was cancelled already")
    } == {("control.done", "cancelled while running")}
    assert violations(found) == []
    ends = {(kind, name): type(log[-1]) for (kind, name), log in found.items()}
    assert ends == {
        **{("brief", name): Completed for name in over},
        **{("later", name): Cancelled for name in delayed},
        **{("brief", name): Cancelled for name in (*early, *queued)},
        ("patient", "holder"): Cancelled,
    }
    assert marks(tmp_path, "ran") == {*over, "holder"}, "what was cancelled before it ran never runs"


async def test_cooperative_first_then_grace_then_kill(jetray: Stack, tmp_path: Path) -> None:
    await jetray.gateway()
    actors = []
    for kind, name in (("polite", "P1"), ("polite", "P2"), ("stubborn", "S1"), ("stubborn", "S2"), ("polite", "P3")):
        await jetray.publish(f"jobs.{kind}", msgspec.json.encode({"id": name}))
        begun = await jetray.seen(kind, name, "started")
        assert isinstance(begun, Started)
        actors.append(begun.actor)
        await jetray.seen(kind, name, "progress")
        await jetray.publish(f"control.cancel.{kind}.{name}", "")
        assert isinstance(await jetray.end(kind, name), Cancelled)
    found = await settled(jetray)
    assert violations(found) == []
    assert marks(tmp_path, "asked") == {"P1", "P2", "P3"}
    polite, again, stubborn, second, last = actors
    assert polite == again == stubborn, "who ends when asked is not killed"
    assert len({stubborn, second, last}) == 3, "each who did not was, and its place was filled again"
    failures = [message.subject for message in await read_all(jetray.bus, subjects.WORKERS, "workers.actor.*.*")]
    assert Counter(subject.split(".")[2] for subject in failures)["initialized"] == 3


async def test_the_holder_learns_after_a_reconnect(jetray: Stack, tmp_path: Path) -> None:
    async with proxy(jetray.url) as (url, cut, mend):
        # Nothing is fetched ahead, so that a job waits for the gateway that has a slot.
        ahead = {"JETRAY_GATEWAY_PREFETCH": "0"}
        await jetray.gateway("gw-1", NATS_URL=url, **ahead)
        await jetray.publish("jobs.patient", '{"id":"J1"}')
        await jetray.seen("patient", "J1", "started")
        await jetray.gateway("gw-2", **ahead)
        await cut()
        command = await jetray.publish("control.cancel.patient.J1", "")
        end = await jetray.end("patient", "J1")
        assert isinstance(end, Cancelled)
        assert end.gateway == "gw-2", "the holder is cut off"
        await mend()
        # Two slots in all: for both of these to run, the holder must have given its own back.
        for name in ("J2", "J3"):
            await jetray.publish("jobs.patient", f'{{"id":"{name}"}}')
        holders = {(await jetray.seen("patient", name, "started")).gateway for name in ("J2", "J3")}
        assert holders == {"gw-1", "gw-2"}
        for name in ("J2", "J3"):
            await jetray.publish(f"control.cancel.patient.{name}", "")
        found = await settled(jetray)
        assert violations(found) == []
        assert {name: type(log[-1]) for (_, name), log in found.items()} == dict.fromkeys(("J1", "J2", "J3"), Cancelled)
        assert await answers(jetray, [command]) == {command: [("control.done", "cancelled while running")]}


async def test_a_cancel_outlives_the_server_that_took_it(tmp_path: Path) -> None:
    furnish(tmp_path)
    server = await embedded.start(tmp_path / "nats")
    try:
        async with connect(server.url, name="test") as bus:
            jetray = Stack(server.url, bus, tmp_path)
            try:
                await jetray.gateway()
                commands = []
                for round_ in range(3):
                    name = f"J{round_}"
                    await jetray.publish("jobs.patient", f'{{"id":"{name}"}}')
                    await jetray.seen("patient", name, "started")
                    commands.append(await jetray.publish(f"control.cancel.patient.{name}", ""))
                    # At whatever step of it the gateway is.
                    server.process.kill()
                    await server.process.wait()
                    server = await embedded.start(tmp_path / "nats", port=server.port)
                    assert isinstance(await jetray.end("patient", name), Cancelled)
                found = await settled(jetray)
                assert violations(found) == []
                said = await answers(jetray, commands)
                assert {len(each) for each in said.values()} == {1}
                assert {each[0][0] for each in said.values()} == {"control.done"}
            finally:
                await jetray.stop()
    finally:
        await embedded.stop(server.process)
