"""The in-memory bus: streams, consumers and connections without a server, under anyio's clock, virtual or real.

General layout:

    server      `MemoryServer`: the shared state, what owns which subject, and the clock
    client      `MemoryBus`: one client's connection to it, which can be cut
    puller      pull by credit, on such a connection
    stream      one stream: what it keeps, and what it refuses for want of room
    checks      what the server reads in a message's headers before it stores it
    consumer    one durable consumer: leases, redelivery, order, and whom the next message goes to
    wire        headers as they come out at the other end, and the room they take
    faults      `Faults`: what may go wrong on the way, for simulations

One conformance suite holds it to nats-server. It is a single server (R1): nothing here is ever in flight. There are no
background tasks: whatever is due happens, at the time at which it was due, when somebody next looks.
"""

from infra.bus.memory.client import MemoryBus
from infra.bus.memory.faults import Fate, Faults
from infra.bus.memory.server import MemoryServer

__all__ = ["Fate", "Faults", "MemoryBus", "MemoryServer"]
