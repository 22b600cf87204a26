"""The gateway: a message's way through the house, bus → intake → codec → admission → dispatch → pool → settle → bus.

General layout:

    gateway     the composition root: what is started, in which order, and how it stops
    rooms       what the rooms share
    topology    the streams and consumers that a gateway needs
    pull        credit, and deliveries for it
    intake      a delivery becomes a ticket and an input, or a refusal
    quarantine  decoding in a child process, for what may kill a decoder
    taster      that child process
    journal     a job log: append by compare-and-set, read from the leader
    worker      one job: carries out what `core.lifecycle` decides
    attempt     one attempt on the pool
    conduct     one run of a batch
    inbox       stimuli for a worker, in order
    live        who runs which job here
    terms       on what terms a kind runs
    cancel      end a job by its log
    depths      how deep the queue of each kind is
    episodes    pressure as it is told: once when it begins, once when it is over
    pressure    streams that are full, and the kinds that are not pulled meanwhile
    upstream    queues that are too deep: what feeds them waits
    scale       pools grow and shrink with the queues of their kinds
    limits      jobs a second, and jobs at once under one key
    lease       renews what is held, and says when it is lost
    settle      dead letters, notices, acknowledgements
    watch       learns of ends that others wrote
    fleet       `workers.*` events, KV `workers`, KV `kinds`

Only anyio is used here, so that all of it runs under virtual time.
"""
