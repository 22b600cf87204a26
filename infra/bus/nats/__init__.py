"""The real bus: NATS JetStream through nats-py's connection, with a publisher and a puller of our own.

General layout:

    connection  `connect`, and `NatsBus`, which is the bus
    requests    requests whose answers, errors included, resolve futures
    answers     what JetStream's JSON says, as values and errors
    puller      pull by credit from a durable consumer
    follower    read a filter of a stream in order, for ever
    manage      create and update streams and consumers, as raw JSON

nats-py's own JetStream context is not used: its asynchronous publish never resolves on an API error, and its fetch may
leave a pull behind that delays the next one.
"""

from infra.bus.nats.connection import NatsBus, connect

__all__ = ["NatsBus", "connect"]
