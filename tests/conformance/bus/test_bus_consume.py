"""Consuming: credit, leases, redelivery, delays, and what a server takes from whoever says it."""

from __future__ import annotations

import anyio
import pytest

from infra.bus.base import Delivery, Refused
from infra.bus.topology import ConsumerSpec, StreamSpec
from tests.conformance.bus.world import World, bodies, take

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


# --- credit


async def test_no_more_arrives_than_was_asked_for(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1", b"2", b"3")
    async with world.bus.pull("JOBS", "echo") as puller:
        assert puller.credit == 0
        puller.grant(2)
        assert puller.credit == 2
        first = await take(puller, 1, world.lease_s)
        assert puller.credit == 1
        second = await take(puller, 1, world.lease_s)
        assert puller.credit == 0
        assert bodies(first + second) == [b"1", b"2"]
        state = await world.bus.consumer("JOBS", "echo")
        assert (state.waiting, state.unacknowledged, state.depth) == (1, 2, 3)


async def test_credit_waits_for_messages(world: World) -> None:
    await world.queue()
    async with world.pulling(3) as puller:
        for body in (b"1", b"2", b"3"):
            await world.bus.publish("jobs.echo", body)
            assert bodies(await take(puller, 1, world.lease_s)) == [body]
        assert puller.credit == 0


async def test_credit_adds_up(world: World) -> None:
    await world.queue()
    await world.enqueue(*(b"%d" % number for number in range(30)))
    async with world.bus.pull("JOBS", "echo") as puller:
        for _ in range(10):
            puller.grant(2)
        assert puller.credit == 20
        assert bodies(await take(puller, 20, world.lease_s)) == [b"%d" % number for number in range(20)]
        puller.grant(10)
        assert len(await take(puller, 10, world.lease_s)) == 10
        assert puller.credit == 0


async def test_revoked_credit_takes_nothing(world: World) -> None:
    await world.queue()
    async with world.pulling(5) as first, world.bus.pull("JOBS", "echo") as second:
        await world.bus.publish("jobs.echo", b"0")
        assert bodies(await take(first, 1, world.lease_s)) == [b"0"]
        first.revoke()
        assert first.credit == 0
        # A call that is answered was preceded by the withdrawal, on the same connection.
        await world.bus.consumer("JOBS", "echo")
        await world.enqueue(b"1", b"2")
        second.grant(2)
        assert bodies(await take(second, 2, world.lease_s)) == [b"1", b"2"]
        assert first.credit == 0
        first.grant(1)
        await world.bus.publish("jobs.echo", b"3")
        assert bodies(await take(first, 1, world.lease_s)) == [b"3"]


async def test_a_puller_that_is_closed_takes_nothing(world: World) -> None:
    await world.queue()
    async with world.pulling(5):
        pass
    await world.bus.consumer("JOBS", "echo")
    await world.bus.publish("jobs.echo", b"1")
    assert [(delivery.body, delivery.number) for delivery in await world.lease()] == [(b"1", 1)]


async def test_pullers_take_turns_and_no_message_goes_to_two(world: World) -> None:
    await world.queue()
    await world.enqueue(*(b"%d" % number for number in range(20)))
    async with world.connect() as another, world.pulling(10) as first, another.pull("JOBS", "echo") as second:
        second.grant(10)
        here = await take(first, 10, world.lease_s)
        there = await take(second, 10, world.lease_s)
    assert {delivery.sequence for delivery in here}.isdisjoint({delivery.sequence for delivery in there})
    assert {delivery.sequence for delivery in here + there} == set(range(1, 21))
    assert all(delivery.number == 1 for delivery in here + there)


async def test_waiting_to_receive_can_be_cancelled_without_loss(world: World) -> None:
    await world.queue()
    async with world.pulling(1) as puller:
        with anyio.move_on_after(world.lease_s / 10):
            await puller.receive()
        await world.bus.publish("jobs.echo", b"1")
        assert bodies(await take(puller, 1, world.lease_s)) == [b"1"]


async def test_all_that_is_there_can_be_received_at_once(world: World) -> None:
    await world.queue()
    await world.enqueue(*(b"%d" % number for number in range(30)))
    async with world.pulling(30) as puller:
        first = await take(puller, 1, world.lease_s)
        received = bodies(first)
        groups = 0
        with anyio.fail_after(20 * world.lease_s + 5):
            while len(received) < 30:
                group = await puller.receive_many()
                assert group
                received += bodies(group)
                groups += 1
                assert puller.credit == 30 - len(received)
                # What has been sent arrives before the server answers this.
                await world.bus.consumer("JOBS", "echo")
        assert received == [b"%d" % number for number in range(30)]
        assert groups <= 3


async def test_receiving_many_waits_for_the_first_and_can_be_cancelled_without_loss(world: World) -> None:
    await world.queue()
    async with world.pulling(3) as puller:
        with anyio.move_on_after(world.lease_s / 10) as waiting:
            await puller.receive_many()
        assert waiting.cancelled_caught
        async with anyio.create_task_group() as group:

            async def publish() -> None:
                await world.bus.publish("jobs.echo", b"1")

            group.start_soon(publish)
            with anyio.fail_after(20 * world.lease_s + 5):
                assert bodies(await puller.receive_many()) == [b"1"]
        assert puller.credit == 2


# --- order and figures


async def test_a_delivery_tells_where_it_comes_from_and_how_many_wait(world: World) -> None:
    await world.queue()
    sequences = await world.enqueue(b"1", b"2", b"3")
    deliveries = await world.lease(3)
    assert [delivery.sequence for delivery in deliveries] == sequences
    assert [delivery.number for delivery in deliveries] == [1, 1, 1]
    assert [delivery.pending for delivery in deliveries] == [2, 1, 0]
    assert {(delivery.stream, delivery.consumer, delivery.subject) for delivery in deliveries} == {
        ("JOBS", "echo", "jobs.echo")
    }


async def test_a_consumer_sees_its_own_subject_alone(world: World) -> None:
    await world.queue()
    await world.bus.publish("jobs.sum", b"sum")
    await world.enqueue(b"echo")
    assert bodies(await world.lease()) == [b"echo"]
    assert (await world.bus.consumer("JOBS", "sum")).waiting == 1
    assert (await world.bus.consumer("JOBS", "echo")).waiting == 0


async def test_figures_follow_a_message_through(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1", b"2")
    state = await world.bus.consumer("JOBS", "echo")
    assert (state.waiting, state.unacknowledged, state.redelivered, state.paused) == (2, 0, 0, False)
    assert state.config["ack_wait"] == int(world.lease_s * 1e9)
    [delivery] = await world.lease()
    await world.until(lambda state: (state.waiting, state.unacknowledged, state.redelivered) == (1, 1, 0))
    await world.nak(delivery)
    [again] = await world.lease()
    await world.until(lambda state: (state.waiting, state.unacknowledged, state.redelivered) == (1, 1, 1))
    await world.bus.ack(again)
    await world.until(lambda state: (state.waiting, state.unacknowledged, state.redelivered) == (1, 0, 0))


async def test_what_goes_out_again_goes_before_what_waits(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1", b"2", b"3")
    [first] = await world.lease()
    await world.nak(first)
    again, second = await world.lease(2)
    assert (again.body, again.number, again.pending) == (b"1", 2, 2)
    assert (second.body, second.number, second.pending) == (b"2", 1, 1)


async def test_a_new_consumer_gets_everything_or_only_what_is_new(world: World) -> None:
    events = StreamSpec(name="PLANNING", subjects=("planning.>",))
    await world.apply(events)
    await world.bus.publish("planning.plan.approved", b"old")
    await world.apply(
        *(
            ConsumerSpec(
                stream="PLANNING", name=deliver, subject="planning.plan.approved", ack_wait_s=60, deliver=deliver
            )
            for deliver in ("all", "new")
        )
    )
    await world.bus.publish("planning.plan.rejected", b"not asked for")
    await world.bus.publish("planning.plan.approved", b"new")
    for name, expected in (("all", [b"old", b"new"]), ("new", [b"new"])):
        async with world.bus.pull("PLANNING", name) as puller:
            puller.grant(5)
            assert bodies(await take(puller, len(expected), world.lease_s)) == expected


async def test_acknowledged_on_a_stream_with_limits_it_stays_in_the_stream(world: World) -> None:
    await world.apply(
        StreamSpec(name="PLANNING", subjects=("planning.>",)),
        ConsumerSpec(stream="PLANNING", name="route", subject="planning.>", ack_wait_s=world.lease_s),
        ConsumerSpec(stream="PLANNING", name="another", subject="planning.>", ack_wait_s=world.lease_s),
    )
    await world.bus.publish("planning.plan.approved", b"1")
    async with world.bus.pull("PLANNING", "route") as puller:
        puller.grant(1)
        [delivery] = await take(puller, 1, world.lease_s)
        await world.bus.ack(delivery)
    assert (await world.bus.get("PLANNING", 1)) is not None
    async with world.bus.pull("PLANNING", "another") as puller:
        puller.grant(1)
        assert bodies(await take(puller, 1, world.lease_s)) == [b"1"]


async def test_a_consumer_that_does_not_exist_is_refused(world: World) -> None:
    await world.queue()
    with pytest.raises(Refused) as refused:
        await world.bus.consumer("JOBS", "none")
    assert (refused.value.code, refused.value.err_code) == (404, 10014)


async def test_a_puller_waits_for_its_consumer_to_be_created(world: World) -> None:
    await world.queue()
    async with world.bus.pull("JOBS", "later") as puller:
        puller.grant(1)
        async with anyio.create_task_group() as group:

            async def create() -> None:
                await world.apply(
                    StreamSpec(
                        name="JOBS",
                        subjects=("jobs.echo", "jobs.sum", "jobs.later"),
                        retention="workqueue",
                        discard="new",
                    ),
                    ConsumerSpec(stream="JOBS", name="later", subject="jobs.later", ack_wait_s=60),
                )
                await world.bus.publish("jobs.later", b"1")

            group.start_soon(create)
            assert bodies(await take(puller, 1, world.lease_s)) == [b"1"]


# --- leases


async def test_what_is_not_settled_comes_again_when_its_lease_ends(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1")
    async with world.pulling(3) as puller:
        deliveries = await take(puller, 3, world.lease_s)
    assert bodies(deliveries) == [b"1"] * 3
    assert [delivery.number for delivery in deliveries] == [1, 2, 3]
    assert len({delivery.stored for delivery in deliveries}) == 1
    assert (await world.bus.consumer("JOBS", "echo")).redelivered == 1


async def test_a_lease_that_is_renewed_does_not_end(world: World) -> None:
    await world.queue()
    await world.enqueue(b"renewed", b"left")
    async with world.pulling(4) as puller:
        renewed, _ = await take(puller, 2, world.lease_s)
        async with anyio.create_task_group() as group:
            group.start_soon(_renew, world, renewed)
            # The other's lease ends twice while this one's goes on.
            again = await take(puller, 2, world.lease_s)
            group.cancel_scope.cancel()
        assert [(delivery.body, delivery.number) for delivery in again] == [(b"left", 2), (b"left", 3)]
        await world.bus.ack(renewed)
        await world.until(lambda state: state.depth == 1)


async def test_a_lease_no_longer_renewed_ends(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1")
    async with world.pulling(2) as puller:
        [delivery] = await take(puller, 1, world.lease_s)
        await world.bus.in_progress(delivery)
        [again] = await take(puller, 1, world.lease_s)
        assert (again.body, again.number) == (b"1", 2)


async def test_leases_that_end_together_come_in_order(world: World) -> None:
    await world.queue()
    sequences = await world.enqueue(*(b"%d" % number for number in range(10)))
    await world.lease(10)
    again = await world.lease(10)
    assert [delivery.sequence for delivery in again] == sequences
    assert [delivery.number for delivery in again] == [2] * 10


async def test_what_nobody_asks_for_waits_though_its_lease_ended(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1", b"2")
    await world.lease()
    # The second consumer's lease, taken later, ends later: then the first one's has ended.
    await world.bus.publish("jobs.sum", b"")
    async with world.pulling(2, consumer="sum") as clock:
        await take(clock, 2, world.lease_s)
    state = await world.bus.consumer("JOBS", "echo")
    assert (state.waiting, state.unacknowledged) == (1, 1)
    assert bodies(await world.lease(2)) == [b"1", b"2"]


# --- nak


async def test_a_nak_hands_out_at_once(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1")
    async with world.pulling(5) as puller:
        for number in range(1, 6):
            [delivery] = await take(puller, 1, world.lease_s)
            assert delivery.number == number
            await world.bus.nak(delivery)


async def test_delayed_naks_come_when_their_delay_is_over(world: World) -> None:
    await world.queue()
    await world.enqueue(b"long", b"short", b"none")
    async with world.pulling(6) as puller:
        long, short, none = await take(puller, 3, world.lease_s)
        # Longer and shorter than the lease.
        await world.bus.nak(long, 1.6 * world.lease_s)
        await world.bus.nak(short, 0.4 * world.lease_s)
        await world.bus.nak(none)
        for expected in (b"none", b"short", b"long"):
            [again] = await take(puller, 1, world.lease_s)
            assert (again.body, again.number) == (expected, 2)
            await world.bus.ack(again)


async def test_delayed_naks_hold_their_places(world: World) -> None:
    await world.queue(max_ack_pending=2)
    await world.enqueue(b"1", b"2", b"3")
    async with world.pulling(4) as puller:
        first, second = await take(puller, 2, world.lease_s)
        await world.bus.nak(first, 0.6 * world.lease_s)
        await world.bus.nak(second, 0.8 * world.lease_s)
        state = await world.bus.consumer("JOBS", "echo")
        assert (state.waiting, state.unacknowledged) == (1, 2)
        # The third starves until a place is free: neither delayed one frees its place by coming again.
        again = await take(puller, 2, world.lease_s)
        assert bodies(again) == [b"1", b"2"]
        puller.grant(1)
        await world.bus.ack(again[0])
        assert bodies(await take(puller, 1, world.lease_s)) == [b"3"]


async def test_a_renewal_cuts_a_delay_to_a_lease(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1")
    async with world.pulling(2) as puller:
        [delivery] = await take(puller, 1, world.lease_s)
        await world.bus.nak(delivery, 10_000 * world.lease_s)
        await world.bus.in_progress(delivery)
        assert [delivery.number for delivery in await take(puller, 1, world.lease_s)] == [2]


async def test_a_second_nak_changes_the_first(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1", b"held", b"3")
    async with world.pulling(2) as puller:
        delivery, held = await take(puller, 2, world.lease_s)
        await world.bus.nak(delivery, 10_000 * world.lease_s)
        await world.bus.nak(delivery)
        await world.bus.nak(delivery)
        await world.bus.nak(delivery, 0.2 * world.lease_s)
        # Answered after all of these were read.
        await world.bus.in_progress(held)
        puller.grant(2)
        # A delay takes back what was to go out at once, and it goes out once.
        assert bodies(await take(puller, 2, world.lease_s)) == [b"3", b"1"]
        assert (await world.bus.consumer("JOBS", "echo")).unacknowledged == 3


# --- places


async def test_no_more_is_leased_than_the_consumer_has_places(world: World) -> None:
    await world.queue(max_ack_pending=2)
    await world.enqueue(b"1", b"2", b"3", b"4")
    async with world.pulling(10) as puller:
        first, _ = await take(puller, 2, world.lease_s)
        state = await world.bus.consumer("JOBS", "echo")
        assert (state.waiting, state.unacknowledged) == (2, 2)
        await world.bus.ack(first)
        assert bodies(await take(puller, 1, world.lease_s)) == [b"3"]


async def test_what_comes_again_needs_no_place(world: World) -> None:
    await world.queue(max_ack_pending=1)
    await world.enqueue(b"1", b"2")
    async with world.pulling(10) as puller:
        await take(puller, 1, world.lease_s)
        assert [(d.body, d.number) for d in await take(puller, 2, world.lease_s)] == [(b"1", 2), (b"1", 3)]


# --- what comes too late


async def test_a_stale_ack_deletes_the_message_under_its_new_holder(world: World) -> None:
    await world.queue()
    [sequence] = await world.enqueue(b"1")
    async with world.pulling(2) as puller:
        stale, current = await take(puller, 2, world.lease_s)
        assert (stale.number, current.number) == (1, 2)
        await world.bus.ack(stale)
        await world.until(lambda state: state.depth == 0)
        assert await world.bus.get("JOBS", sequence) is None
        # And nothing the new holder says brings it back, or is an error.
        await world.bus.in_progress(current)
        await world.bus.nak(current)
        await world.bus.ack(current)
        puller.grant(1)
        await world.bus.publish("jobs.echo", b"next")
        assert bodies(await take(puller, 1, world.lease_s)) == [b"next"]


async def test_an_ack_of_what_waits_to_go_out_again_is_taken(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1")
    [delivery] = await world.lease()
    await world.bus.nak(delivery)
    await world.bus.ack(delivery)
    await world.until(lambda state: state.depth == 0)
    await world.bus.publish("jobs.echo", b"next")
    assert bodies(await world.lease()) == [b"next"]


async def test_an_ack_where_messages_outlive_it_is_taken_too(world: World) -> None:
    await world.apply(
        StreamSpec(name="JOBS", subjects=("jobs.*",)),
        ConsumerSpec(stream="JOBS", name="echo", subject="jobs.echo", ack_wait_s=world.lease_s),
    )
    await world.enqueue(b"1")
    [delivery] = await world.lease()
    await world.bus.nak(delivery)
    await world.bus.ack(delivery)
    await world.until(lambda state: state.depth == 0)
    await world.bus.publish("jobs.echo", b"next")
    assert bodies(await world.lease()) == [b"next"]


async def test_a_stale_nak_hands_out_what_another_holds(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1")
    async with world.pulling(2) as puller:
        stale, _ = await take(puller, 2, world.lease_s)
        async with world.connect() as another, another.pull("JOBS", "echo") as thief:
            thief.grant(1)
            await world.bus.nak(stale)
            [stolen] = await take(thief, 1, world.lease_s)
            assert (stolen.body, stolen.number) == (b"1", 3)


async def test_a_stale_delayed_nak_postpones_what_another_holds(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1", b"2")
    async with world.pulling(5) as puller:
        stale, _, _, _ = await take(puller, 4, world.lease_s)
        assert (stale.body, stale.number) == (b"1", 1)
        await world.bus.nak(stale, 10_000 * world.lease_s)
        # Both were leased out a second time together; only the other comes a third time.
        assert [(d.body, d.number) for d in await take(puller, 1, world.lease_s)] == [(b"2", 3)]


async def test_a_stale_renewal_keeps_what_another_holds(world: World) -> None:
    await world.queue()
    await world.enqueue(b"stale", b"left")
    async with world.pulling(6) as puller:
        stale = (await take(puller, 4, world.lease_s))[0]
        assert (stale.body, stale.number) == (b"stale", 1)
        async with anyio.create_task_group() as group:
            group.start_soon(_renew, world, stale)
            again = await take(puller, 2, world.lease_s)
            group.cancel_scope.cancel()
        assert [(delivery.body, delivery.number) for delivery in again] == [(b"left", 3), (b"left", 4)]


async def test_a_renewal_of_what_is_done_is_confirmed(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1")
    [delivery] = await world.lease()
    await world.bus.ack(delivery)
    await world.until(lambda state: state.depth == 0)
    await world.bus.in_progress(delivery)
    await world.bus.ack(delivery)
    assert (await world.bus.consumer("JOBS", "echo")).depth == 0


async def test_a_renewal_does_not_take_back_what_goes_out_again(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1")
    [delivery] = await world.lease()
    await world.bus.nak(delivery)
    await world.bus.in_progress(delivery)
    [again] = await world.lease()
    assert again.number == 2


async def test_one_may_settle_what_another_pulled(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1")
    [delivery] = await world.lease()
    async with world.connect() as another:
        await another.in_progress(delivery)
        await another.ack(delivery)
    await world.until(lambda state: state.depth == 0)


async def _renew(world: World, delivery: Delivery) -> None:
    while True:
        await world.bus.in_progress(delivery)
        await anyio.sleep(world.lease_s / 5)


async def test_many_are_acknowledged_at_once(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1", b"2", b"3")
    deliveries = await world.lease(3)
    await world.bus.ack_many(deliveries[:2])
    state = await world.until(lambda state: state.depth == 1)
    assert state.unacknowledged == 1
