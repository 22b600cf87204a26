"""Run a dead letter again: `requeued` opens the next run, and the message is published anew.

Each step can be taken twice. The `requeued` is appended by compare-and-set; the message's id is `<kind>.<id>.<run>`,
and a second copy of it finds a log that knows it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from contracts import dlq, headers, inbound
from contracts.events import Failed, Requeued, is_terminal
from contracts.subjects import DLQ
from infra.bus.base import Bus, NoSuchSubject, Stored, TooLarge
from infra.store.base import Missing, Store
from workers.core.log import LogView
from workers.kinds.registry import Kind
from workers.runtime.journal import Journal, Written
from workers.runtime.patience import patiently
from workers.runtime.registered import registered
from workers.runtime.reissue import reissue

__all__ = ["Refusal", "Replayer"]


class Refusal(Exception):
    """The command cannot be carried out: why, in words for who gave it."""


class Replayer:
    """Replays dead letters."""

    def __init__(
        self,
        *,
        bus: Bus,
        journal: Journal,
        store: Store,
        kinds: Mapping[str, Kind],
        limits: inbound.Limits,
        gateway: str,
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._store = store
        self._kinds = kinds
        self._limits = limits
        self._gateway = gateway

    async def replay(self, sequence: int) -> str:
        """Open the next run of the job that dead letter `sequence` tells of. What was done, in words; or `Refusal`."""
        letter = await patiently(lambda: self._bus.get(DLQ, sequence), what=f"reading {DLQ}:{sequence}")
        if letter is None:
            raise Refusal(f"DLQ holds no message {sequence}")
        kind, job_id = letter.headers[headers.KIND], letter.headers[headers.JOB_ID]
        if await registered(self._bus, kind) is None:
            raise Refusal(f"no gateway has registered kind {kind}")
        # Before the log says that there is a next run: without these there can be none.
        originals, body = await self._originals(letter), await self._body(letter)
        requeued = await self._requeued(letter, kind, job_id, originals)
        if requeued is None:
            return "its replay has ended already"
        await self._publish(requeued, body, originals, letter.headers.get(headers.ORIGIN_SUBJECT, ""))
        return f"{kind}.{job_id} goes into run {requeued.run}"

    async def _publish(self, requeued: Requeued, body: bytes, originals: Mapping[str, str], subject: str) -> None:
        """Publish the message of a run that `requeued` opened."""
        kind, job_id, run = requeued.kind, requeued.job_id, requeued.run
        try:
            await reissue(
                self._bus,
                kind=kind,
                job_id=job_id,
                run=run,
                body=body,
                originals=originals,
                subject=subject,
                message_id=f"{kind}.{job_id}.{run}",
                unless=(NoSuchSubject,),
            )
        except (NoSuchSubject, TooLarge) as error:
            raise Refusal(f"the queue of {kind} does not take the message: {error}") from error

    async def _requeued(self, letter: Stored, kind: str, job_id: str, originals: Mapping[str, str]) -> Requeued | None:
        """The `requeued` of this dead letter: ours of an earlier try, or a new one. None where its run has ended."""
        view = await self._journal.read(kind, job_id)
        while True:
            found = await self._journal.requeued(kind, job_id)
            if found is not None and found[1].dlq_sequence == letter.sequence:
                earlier = found[1]
                ended = view.tail is not None and (
                    view.tail.run > earlier.run or (view.tail.run == earlier.run and is_terminal(view.tail))
                )
                return None if ended else earlier
            # Not before the look for our own: its batch may have opened since, and the run waits for its message.
            await self._refuse_child_of_open_batch(originals)
            event = self._next_run(letter, kind, job_id, view, originals)
            done = await self._journal.append(event, after=view.sequence)
            if isinstance(done, Written):
                return event
            view = done

    def _next_run(
        self, letter: Stored, kind: str, job_id: str, view: LogView, originals: Mapping[str, str]
    ) -> Requeued:
        tail = view.tail
        if tail is not None and not (isinstance(tail, Failed) and tail.dlq_sequence == letter.sequence):
            raise Refusal(f"the log of {kind}.{job_id} does not end with the failure that this dead letter is of")
        return Requeued(
            kind=kind,
            job_id=job_id,
            n=1 if tail is None else tail.n + 1,
            run=int(letter.headers[headers.RUN]) + 1 if tail is None else tail.run + 1,
            attempt=1,
            time=self._bus.server_now(),
            gateway=self._gateway,
            origin=letter.headers[headers.ORIGIN] if tail is None else tail.origin,
            parent=originals.get(headers.PARENT) if tail is None else tail.parent,
            correlation_id=job_id if tail is None else tail.correlation_id,
            subject_id=None if tail is None else tail.subject_id,
            dlq_sequence=letter.sequence,
            input_sha256=self._digest(letter, kind, view, originals),
        )

    def _digest(self, letter: Stored, kind: str, view: LogView, originals: Mapping[str, str]) -> str:
        if view.opening is not None:
            return view.opening.input_sha256
        known = self._kinds.get(kind)
        if known is None:
            return ""
        message = inbound.Message(subject="", headers=originals, body=letter.body, stream=DLQ, sequence=letter.sequence)
        read = inbound.read(message, known.spec, self._limits, foreign=True)
        return read.input_sha256 if isinstance(read, inbound.Accepted) else ""

    async def _refuse_child_of_open_batch(self, originals: Mapping[str, str]) -> None:
        """Its batch decides about it, and can be replayed once it has ended."""
        parent = originals.get(headers.PARENT)
        if parent is None:
            return
        kind, _, job_id = parent.partition(".")
        tail = (await self._journal.read(kind, job_id)).tail
        if tail is not None and not is_terminal(tail):
            raise Refusal(f"its batch {parent} is still open, and decides about it")

    async def _originals(self, letter: Stored) -> dict[str, str]:
        uri = letter.headers.get(headers.HEADERS_ARTIFACT)
        if uri is None:
            return dlq.original_headers(letter.headers)
        return msgspec.json.decode(await self._fetch(uri), type=dict[str, str])

    async def _body(self, letter: Stored) -> bytes:
        uri = letter.headers.get(headers.BODY_ARTIFACT)
        return letter.body if uri is None else await self._fetch(uri)

    async def _fetch(self, uri: str) -> bytes:
        try:
            return await patiently(lambda: self._store.get(uri), what=uri, unless=(Missing,))
        except Missing as error:
            raise Refusal(f"what did not fit into the dead letter is no longer kept: {error}") from error
