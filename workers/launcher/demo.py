"""`jetray demo`: one plan through a stack of its own, which leaves nothing behind.

The children start before anything that takes time is imported here: most of a demo is Ray's own start.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from contracts import events, subjects
from contracts.events import Cancelled, Completed, Failed
from workers.launcher import exits
from workers.launcher.exits import Failure, Misconfigured
from workers.launcher.stack import Running, Stack, gateway_command
from workers.launcher.supervise import Signals

if TYPE_CHECKING:
    from contracts.plan import PlanResult
    from infra.bus.base import Bus, Stored
    from workers.launcher.demo_view import View

__all__ = ["demo"]

LIMIT_S: Final = 180.0
"""What start and plan may take together on a machine that is busy with other things."""
LOG_LINES: Final = 20

SETTINGS: Final = """\
[gateway]
name = "demo"
grace_s = 1.0

# A demo fits on a small disk.
[streams]
events_max_bytes = 268435456
dlq_max_bytes = 67108864
"""

SUBJECT: Final = "planning.plan.approved"
PLAN: Final = {
    "story_id": "STORY-1",
    "plan_id": "DEMO",
    "approved_by": "jetray-demo",
    "timestamp": "2026-11-22T05:00:00Z",
    "roles": ["ARCHITECT", "DEV", "QA"],
}


async def demo(*, with_ray: bool) -> int:
    """Run it, and return the exit status. Raises `Failure`, `Misconfigured`, `ServerMissing`."""
    signals = Signals()
    with tempfile.TemporaryDirectory(prefix="jetray-demo-") as directory:
        state = Path(directory)
        config, log = state / "jetray.toml", state / "gateway.log"
        config.write_text(SETTINGS, encoding="utf-8")
        show = _Show(with_ray=with_ray)
        try:
            with log.open("wb") as output:
                stack = Stack(
                    state_dir=state,
                    nats_port=0,
                    command=gateway_command(config),
                    environment=environment_of(os.environ, with_ray=with_ray),
                    grace_s=1.0,
                    output=output,
                    say=_say,
                    # A demo in which something dies has failed.
                    pauses=None,
                )
                async with anyio.create_task_group() as group:
                    group.start_soon(signals.watch)
                    await stack.run(signals, show.run)
                    group.cancel_scope.cancel()
        except* (Failure, Misconfigured):
            _print_tail(log)
            raise
    if signals.stop.is_set():
        return exits.INTERRUPTED
    return show.conclude()


class _Show:
    """Publishes the plan, and shows what comes of it."""

    def __init__(self, *, with_ray: bool) -> None:
        self._with_ray = with_ray
        self._view: View | None = None
        self._result: PlanResult | None = None

    async def run(self, running: Running) -> None:
        """From a nats-server that listens to the plan's end."""
        # Meanwhile the gateway's process imports what it needs.
        from infra.bus.nats import connect
        from workers.launcher.demo_view import View

        # A connection that ends while the stack does is nothing to tell.
        logging.getLogger("jetray").setLevel(logging.ERROR)
        with View(with_ray=self._with_ray) as view:
            self._view = view
            view.note(f"nats-server listens on {running.url}")
            async with connect(running.url, name="jetray demo", wait=False) as bus:
                with anyio.move_on_after(LIMIT_S) as limit:
                    await self._play(running, bus, view)
            if limit.cancelled_caught:
                raise Failure(f"the plan did not end within {LIMIT_S:g} s")

    def conclude(self) -> int:
        """Print every council's winner and the plan's summary; the exit status."""
        assert self._view is not None, "a stack that ran to its end has shown something"
        assert self._result is not None, "a plan that did not complete has raised"
        self._view.conclude(self._result)
        succeeded = all(council.outcome == "completed" for council in self._result.councils)
        return exits.OK if succeeded else exits.FAILED

    async def _play(self, running: Running, bus: Bus, view: View) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(view.refresh)
            await running.serving.wait()
            view.note("the gateway serves")
            await self._publish(bus, view)
            group.start_soon(self._follow, bus, subjects.AGENTS, "agent.*.*.*", view)
            group.start_soon(self._follow, bus, subjects.WORKERS, "workers.*.*.*", view)
            await self._until_the_plan_ends(bus, view)
            group.cancel_scope.cancel()

    async def _publish(self, bus: Bus, view: View) -> None:
        import msgspec

        ack = await bus.publish(SUBJECT, msgspec.json.encode(PLAN), {"Nats-Msg-Id": f"plan.{PLAN['plan_id']}.1"})
        view.note(f"published {SUBJECT}: message {ack.sequence} of stream {ack.stream}")

    async def _follow(self, bus: Bus, stream: str, subject: str, view: View) -> None:
        async with aclosing(_iterate(bus, stream, subject)) as messages:
            async for message in messages:
                view.message(message)

    async def _until_the_plan_ends(self, bus: Bus, view: View) -> None:
        async with aclosing(_iterate(bus, subjects.EVENTS, "orchestration.*.*.*")) as messages:
            async for message in messages:
                event = events.decode(message.body)
                view.event(event)
                if event.kind == "plan" and events.is_terminal(event):
                    self._result = result_of(event)
                    return


async def _iterate(bus: Bus, stream: str, subject: str) -> AsyncGenerator[Stored, None]:
    # A generator of our own is closed by `aclosing` whatever the bus returns.
    async for message in bus.follow(stream, subject):
        yield message


def result_of(event: events.Event) -> PlanResult:
    import msgspec

    from contracts.plan import PlanResult

    match event:
        case Completed():
            return msgspec.json.decode(event.result, type=PlanResult)
        case Failed():
            raise Failure(f"the plan failed ({event.error.reason}): {event.error.message}")
        case Cancelled():
            raise Failure(f"somebody cancelled the plan: {event.reason}")
    raise AssertionError(f"{events.event_name(event)} is no end")


def environment_of(environment: Mapping[str, str], *, with_ray: bool) -> dict[str, str]:
    """The gateway's, without anything that is meant for another gateway."""
    kept = {name: value for name, value in environment.items() if not name.startswith("JETRAY_")}
    return {**kept, "RAY_ADDRESS": "local" if with_ray else "none"}


def _print_tail(log: Path) -> None:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    if lines:
        _say("the gateway's last words:")
        print("\n".join(lines), file=sys.stderr)


def _say(line: str) -> None:
    print(f"jetray demo: {line}", file=sys.stderr, flush=True)
