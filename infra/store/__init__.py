"""Artifacts: files and values too large for a message.

General layout:

    base        the Protocols and their errors
    objects     a NATS object store
    memory      in memory

For files, where jobs run:

    uris        what may be named
    files       the store for a URI
    folder      a directory, `file:///…`
    edge        NATS object stores, through a connection of their own
    remote      what fsspec knows, as `s3://…`
"""
