"""A gateway's pool with one nasty job, for tests that kill it: `python -m tests.infra.nasty_driver POOL KIND FILE`.

POOL is `process` or `ray`, KIND one of `tests.conformance.pool.nasty`. It prints a line once the job has named its
processes in FILE, and goes on until it is killed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from infra.pool.base import HostSpec, Pool, PoolEvent, Profile
from infra.pool.process import ProcessPool
from infra.pool.ray.pool import RayPool
from tests.conformance.pool import nasty
from tests.conformance.pool.test_descendants import nasty_call, written
from tests.conformance.pool.worlds import begin


async def main(which: str, kind: str, directory: Path) -> None:
    profiles = [Profile(name="default", actors=1, cpus=0.5)]
    host = HostSpec(factory=nasty.FACTORY, config=b"")
    pool: Pool = (RayPool if which == "ray" else ProcessPool)(profiles, host, gateway="gw-1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.serve, ignore)
        await begin(pool, nasty_call(kind, directory))
        await written(directory)
        print("running", flush=True)
        await anyio.sleep_forever()


def ignore(event: PoolEvent) -> None:
    pass


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], Path(sys.argv[3]))
