"""Adapters by capability: each a Protocol with its errors, the real thing, and an in-memory one kept honest by a
conformance suite that both pass.

General layout:

    bus/        streams, consumers, messages (NATS JetStream; in memory)
    pool/       places where jobs run (Ray actors; a child process; in memory)
    store/      artifacts (NATS object store; in memory)
    telemetry   trace context from message to event
    deploy/     what docker-compose and Kubernetes mount
"""
