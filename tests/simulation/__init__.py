"""Histories of whole gateways under faults, in virtual time: one seed, one history, repeated exactly.

General layout:

    history     what a seed's history is: jobs, commands, and the faults that will strike
    flavours    sorts of histories, by the seed
    scenes      short stories amid a history
    kinds       the kinds of its jobs, and the host that runs them and writes the ledger
    ledger      what user code really did: when each attempt began and ended, and how
    faults      steps of the job path, faults, and which can strike where
    lean        what trio and anyio do for others, left out
    replica     reads that do not ask the leader, for the mutation gate
    frozen      a scheduler that can stop a gateway's tasks as SIGSTOP stops a process
    incarnation a gateway from its start to its end, made as the launcher makes it
    strikes     the faults of a history meet the steps of its gateways
    world       a history under way, and the way to quiet
    evidence    the logs, the dead letters, what was accepted, and the ledger
    attempts    laws about attempts: who may write, when user code runs, what budgets are spent
    aftermath   laws about dead letters, moved messages, and answers to commands
    batches     laws about batches: their results, their ends, their cancels and replays
    judge       all laws
    run         one seed, from its history to its verdict
    __main__    `python -m tests.simulation --seeds 200`
"""
