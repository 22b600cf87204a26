"""A host whose jobs use the Ray that they run on."""

from __future__ import annotations

import anyio.to_thread
import ray

from contracts.calls import Call, Returned

__all__ = ["FACTORY", "build"]

FACTORY = f"{__name__}:build"


class _Host:
    async def execute(self, call: Call, send: object) -> Returned:
        task = ray.remote(num_cpus=0)(_doubled)
        number = int(call.input)
        match call.kind:
            case "awaits":
                found = await task.remote(number)
            case "blocks":
                found = ray.get(task.remote(number))
            case _:
                found = await anyio.to_thread.run_sync(lambda: ray.get(task.remote(number)))
        name = ray.get_runtime_context().get_actor_name()
        return Returned(result=f"{found} in {name}".encode())

    def cancel(self, job: str) -> bool:
        return False


def build(config: bytes) -> _Host:
    return _Host()


def _doubled(number: int) -> int:
    return 2 * number
