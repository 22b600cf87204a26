"""Publishes jobs evenly, however they are received, and says of which it heard what; one line of JSON.

python -m tests.benchmarks.overload_client URL KIND PER_SECOND SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import nats
import uvloop

from tests.benchmarks.gateway import kind_lane
from tests.benchmarks.jobs import jobs
from tests.benchmarks.publisher import Publisher


async def main(url: str, kind: str, per_second: float, seconds: float) -> None:
    """Publish, and print what was heard."""
    client = await nats.connect(url)
    publisher = Publisher(client)
    await publisher.open()
    message, began = kind_lane(kind).message, time.perf_counter()
    for number, job in enumerate(jobs("over", int(per_second * seconds))):
        ahead = began + number / per_second - time.perf_counter()
        if ahead > 0.005:
            await asyncio.sleep(ahead)
        await publisher.send(message(job))
    await publisher.settle()
    lasted = time.perf_counter() - began
    await client.close()
    print(json.dumps(_heard(publisher, lasted)), flush=True)


def _heard(publisher: Publisher, lasted: float) -> dict[str, Any]:
    codes = Counter(_code(words) for words in publisher.refused.values())
    return {
        "sent": publisher.sent,
        "seconds": lasted,
        "accepted": sorted(publisher.accepted),
        "refused": {str(code): count for code, count in codes.items()},
    }


def _code(words: bytes) -> int | str:
    try:
        return int(json.loads(words)["error"]["err_code"])
    except (ValueError, KeyError):
        return words.decode(errors="replace")[:80]


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
