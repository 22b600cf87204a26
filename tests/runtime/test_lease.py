"""Leases: renewed at a third, given up in time; and whoever was fenced changes nothing."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest

from infra.bus.base import Delivery
from infra.bus.memory import MemoryBus, MemoryServer
from infra.bus.topology import ConsumerSpec, StreamSpec, Topology
from tests.runtime.world import Hooks
from workers.runtime.lease import Leases

pytestmark = pytest.mark.anyio

ACK_WAIT_S = 60.0


async def _delivery(hooks: Hooks) -> tuple[MemoryBus, Delivery]:
    server = MemoryServer()
    bus = MemoryBus(server, faults=hooks)
    await bus.apply(
        Topology(
            streams=(StreamSpec(name="JOBS", subjects=("jobs.echo",), retention="workqueue"),),
            consumers=(ConsumerSpec(stream="JOBS", name="echo", subject="jobs.echo", ack_wait_s=ACK_WAIT_S),),
        )
    )
    await bus.publish("jobs.echo", b"{}")
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(1)
        return bus, await puller.receive()


def _renewals(hooks: Hooks) -> list[float]:
    return [at for op, _, at in hooks.calls if op == "in_progress"]


async def test_a_lease_is_renewed_at_a_third_for_as_long_as_it_is_held() -> None:
    hooks = Hooks()
    bus, delivery = await _delivery(hooks)
    leases = Leases(bus, ack_wait_s=ACK_WAIT_S)
    lost: list[float] = []
    async with anyio.create_task_group() as group:
        group.start_soon(leases.serve)
        lease = leases.hold(delivery, lambda: lost.append(anyio.current_time()))
        await anyio.sleep(610)
        leases.release(lease)
        renewals = _renewals(hooks)
        await anyio.sleep(600)
        group.cancel_scope.cancel()
    assert lost == []
    gaps = [later - earlier for earlier, later in pairwise(renewals)]
    assert len(renewals) >= 25
    assert min(gaps) == pytest.approx(20, abs=6)
    assert max(gaps) == pytest.approx(20, abs=6)
    assert _renewals(hooks) == renewals, "released, it is renewed no more"


async def test_one_renewal_that_gets_no_answer_is_tried_again_before_it_matters() -> None:
    hooks = Hooks()
    bus, delivery = await _delivery(hooks)
    leases = Leases(bus, ack_wait_s=ACK_WAIT_S)
    lost: list[float] = []
    async with anyio.create_task_group() as group:
        group.start_soon(leases.serve)
        leases.hold(delivery, lambda: lost.append(anyio.current_time()))
        hooks.lose_requests("in_progress", "jobs.echo", times=3)
        await anyio.sleep(600)
        group.cancel_scope.cancel()
    assert lost == []
    assert (await bus.consumer("JOBS", "echo")).redelivered == 0


async def test_an_answer_that_comes_late_does_not_shorten_the_lease() -> None:
    hooks = Hooks()
    bus, delivery = await _delivery(hooks)
    leases = Leases(bus, ack_wait_s=ACK_WAIT_S)
    lost: list[float] = []
    answers = 0

    async def late(op: str, subject: str) -> None:
        nonlocal answers
        answers += op == "in_progress"
        if op == "in_progress" and answers == 1:
            # Asked after 20 s and answered after 75 s, when the renewals of 40 s and 60 s are confirmed.
            await anyio.sleep(55)

    hooks.on_after = late
    async with anyio.create_task_group() as group:
        group.start_soon(leases.serve)
        leases.hold(delivery, lambda: lost.append(anyio.current_time()))
        await anyio.sleep(600)
        group.cancel_scope.cancel()
    assert answers > 3
    assert lost == []


async def test_a_lease_that_cannot_be_renewed_is_given_up_once_and_before_it_ends() -> None:
    hooks = Hooks()
    bus, delivery = await _delivery(hooks)
    leases = Leases(bus, ack_wait_s=ACK_WAIT_S)
    lost: list[float] = []
    async with anyio.create_task_group() as group:
        group.start_soon(leases.serve)
        lease = leases.hold(delivery, lambda: lost.append(anyio.current_time()))
        await anyio.sleep(100)
        [*_, renewed] = _renewals(hooks)
        bus.disconnect()
        await anyio.sleep(1_000)
        group.cancel_scope.cancel()
    [at] = lost
    assert lease.lost
    assert renewed + ACK_WAIT_S / 2 < at < renewed + ACK_WAIT_S


async def test_a_renewal_counts_from_when_it_was_sent() -> None:
    """The server's answer may come late; by its clock the lease began when the request arrived, or a little before."""
    hooks = Hooks()
    bus, delivery = await _delivery(hooks)
    leases = Leases(bus, ack_wait_s=ACK_WAIT_S)

    async def slow(op: str, subject: str) -> None:
        if op == "in_progress":
            await anyio.sleep(15)

    hooks.on_after = slow
    lost: list[float] = []
    async with anyio.create_task_group() as group:
        group.start_soon(leases.serve)
        leases.hold(delivery, lambda: lost.append(anyio.current_time()))
        await anyio.sleep(36)
        [renewed] = _renewals(hooks)
        assert renewed + 15 < anyio.current_time(), "it has been answered"
        bus.disconnect()
        await anyio.sleep(100)
        group.cancel_scope.cancel()
    [at] = lost
    assert at < renewed + ACK_WAIT_S


async def test_whoever_was_stopped_for_long_may_look_before_the_one_who_renews() -> None:
    bus, delivery = await _delivery(Hooks())
    leases = Leases(bus, ack_wait_s=ACK_WAIT_S)
    lost: list[float] = []
    lease = leases.hold(delivery, lambda: lost.append(anyio.current_time()))
    await anyio.sleep(45)
    leases.check(lease)
    assert (lease.lost, lost) == (False, [])
    await anyio.sleep(10)
    leases.check(lease)
    leases.check(lease)
    assert (lease.lost, len(lost)) == (True, 1)
