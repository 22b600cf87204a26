"""The bus: what Jetray needs of JetStream, and no more.

General layout:

    base        the Protocol, its values and its errors
    topology    streams and consumers as typed data, applied idempotently
    nats        the real one: connection, publisher, puller, management
    memory      the in-memory one, under any clock
    embedded    a nats-server as a child process
"""
