"""Real nats-servers, Ray clusters and gateways under faults: killed, frozen, cut off, filled; and judged.

General layout:

    kinds       the kinds of the jobs, and the ledger that they write
    processes   processes that are started again whenever they end, and a census, so that none outlives the run
    machine     which process of this machine is what
    disk        a small disk that can be filled, where the system lets us mount one
    proxy       the TCP door between one gateway and one nats-server; it can be stalled, muted and cut
    servers     one nats-server or three
    world       servers, Ray head, doors and gateways: all that can be struck
    faults      what strikes, and how it is healed
    storm       the faults of a run, one after another, drawn from the seed
    load        the jobs and commands of a run: published, and published again until acknowledged
    watcher     what an observer saw live, and how long recoveries took
    evidence    all that the judge may look at
    judge       what was broken of what is promised
    overlaps    attempts that ran on beside the next one, and which fault explains it
    phase       one world from its start to its verdict
    report      the report, as JSON and as text
    recovery    single faults in quiet, timed
    __main__    `python -m tests.chaos --minutes 25`
"""
