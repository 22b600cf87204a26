"""Jobs of the scenes that are about pools and pressure."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
from msgspec import Struct

from tests.seventeen.asked import FOLDER
from workers import job

LOOK_S = 0.02


class Hold(Struct):
    """A job that ends once there is a file."""

    id: str
    until: str


@job("hold", id_field="id", profile="narrow")
async def hold(task: Hold) -> str:
    """Wait for the file."""
    while not (Path(os.environ[FOLDER]) / task.until).exists():  # noqa: ASYNC110  another process makes it
        await anyio.sleep(LOOK_S)
    return task.id


class Doom(Struct):
    """A job that may be its actor's last."""

    id: str
    deadly: bool


@job("doom", id_field="id", profile="narrow", max_lost=0)
def doom(task: Doom) -> str:
    """Kill the process that runs this."""
    if task.deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.id
