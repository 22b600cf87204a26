"""Seventeen events that another system defined and hardly emitted, each provoked by what it tells of: `make seventeen`.

A real nats-server, a gateway as a process of its own with a Ray of its own. No event counts that says less than it
should, or other than what really happened.

General layout:

    asked       settings and inputs
    kinds       jobs that wait, and jobs that kill what runs them
    workflows   what batches try in variants
    scenes      what is done to provoke the events, one after the other
    evidence    what was said meanwhile, by its message's id
    rows        the events, and what each must tell
    proof       plays the scenes and finds each row's message
    table       the result, for eyes
    __main__    `python -m tests.seventeen`
"""
