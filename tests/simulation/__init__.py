"""Histories of whole gateways under faults, in virtual time: one seed, one history, repeated exactly.

General layout:

    history     what a seed's history is: jobs, commands, and the faults that will strike
    kinds       the kinds of its jobs, and the host that runs them and writes the ledger
    ledger      what user code really did: when each attempt began and ended, and how
    faults      steps of the job path, faults, and which can strike where
    frozen      a scheduler that can stop a gateway's tasks as SIGSTOP stops a process
    world       gateways on one server, the faults that strike them, and the way to quiet
    judge       what the logs, the dead letters and the ledger must agree on
    __main__    `python -m tests.simulation --seeds 200`
"""
