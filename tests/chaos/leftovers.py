"""What is left in a stream that should be empty, with all that the server knows of it: such a find explains itself."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from contracts import headers as h
from infra.bus.base import Refused
from infra.bus.nats import NatsBus, answers
from infra.bus.topology import subject_matches

__all__ = ["Left", "find", "lines_about"]

TOLD: Final = 100
"""Messages of a stream that are told of."""
QUOTED: Final = 10
"""How many of them with what the logs have."""
LINES: Final = 5
"""Of each log, about one message."""


class Left(Struct, frozen=True, kw_only=True):
    """A message that nobody settled, or that came back after it was."""

    stream: str
    sequence: int
    subject: str
    message_id: str
    stored: str
    """When."""
    job_id: str
    """Of a job's message; empty otherwise."""
    consumer: str
    """Whose it is, and how far that is, in words."""
    lines: list[str] = []
    """Of the gateways' logs, and the server's."""

    def __str__(self) -> str:
        return f"{self.stream}:{self.sequence} ({self.subject}, {self.message_id}, stored {self.stored})"


async def find(bus: NatsBus, stream: str, folder: Path | None) -> list[Left]:
    """The first messages of a stream; in `folder` lie the logs of the servers and the gateways."""
    consumers = (await bus.api(f"CONSUMER.LIST.{stream}", {"offset": 0}))["consumers"] or []
    found: list[Left] = []
    while len(found) < TOLD:
        try:
            message = await _next(bus, stream, found[-1].sequence + 1 if found else 0)
        except Refused:
            break
        headers = answers.parse_headers(b64decode(message.get("hdrs", "")))
        sequence, subject = message["seq"], message["subject"]
        owner = next((each for each in consumers if subject_matches(each["config"]["filter_subject"], subject)), None)
        found.append(
            Left(
                stream=stream,
                sequence=sequence,
                subject=subject,
                message_id=headers.get(h.MSG_ID, "no id"),
                stored=message["time"],
                job_id=headers.get(h.JOB_ID) or _id(b64decode(message.get("data", ""))),
                consumer="no consumer" if owner is None else _words(owner, sequence),
                lines=[] if folder is None or len(found) >= QUOTED else lines_about(folder, stream, sequence),
            )
        )
    return found


async def _next(bus: NatsBus, stream: str, sequence: int) -> dict[str, Any]:
    answer = await bus.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence, "next_by_subj": ">"})
    message: dict[str, Any] = answer["message"]
    return message


def _id(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body, type=dict[str, Any]).get("id", ""))
    except msgspec.DecodeError:
        return ""


def _words(info: Mapping[str, Any], sequence: int) -> str:
    floor, delivered = info["ack_floor"]["stream_seq"], info["delivered"]["stream_seq"]
    where = "at or below" if sequence <= floor else "above"
    return (
        f"{where} the ack floor {floor} of consumer {info['name']}, which delivered up to {delivered}: "
        f"{info['num_ack_pending']} in hand, {info['num_redelivered']} of them again, {info['num_pending']} to come, "
        f"{info['num_waiting']} pulls wait"
    )


def lines_about(folder: Path, stream: str, sequence: int) -> list[str]:
    """The last lines about a message in the gateways' logs, and the last complaints about its stream in a server's."""
    named = re.compile(rf"\b{stream}:{sequence}\b")
    complaint = re.compile(rf"\[(ERR|WRN|FTL)\].*\b{stream}\b")
    return [
        f"{path.name}: {line}"
        for path in sorted(folder.glob("*.log"))
        for line in _last(path, complaint if path.name.startswith("nats-") else named)
    ]


def _last(path: Path, wanted: re.Pattern[str]) -> Iterator[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return reversed([*islice((line for line in reversed(lines) if wanted.search(line)), LINES)])
