"""Artifacts: files and values too large for a message.

General layout:

    base        the Protocol and its errors
    objects     a NATS object store
    memory      in memory
"""
