"""Where jobs run.

General layout:

    base        the Protocol, its values and its errors
    ray/        Ray actors
    process     a child process for each profile, one job at a time, without Ray
    child       that process's main
    wire        what it and the gateway say to each other
    memory      in this very task, under any clock

    slots       who gets which slot. Pure
    crew        the calls of one profile, and the slots that they get
    staff       its actors: the size kept, the dead replaced, the worn let go, spares held ready
    tenure      one of them, from its start to its end
    states      what an actor may be, and what may become of it. Pure
    circuit     when one is started after others came to nothing. Pure
    heartbeat   whether its loop still answers
    crewed      a pool made of crews
    execution   an attempt on its way
    actor       what a crew asks of its actors, whatever they are
    hosting     for the places where jobs run: build the host, run a call on it
    birthmark   how all that an actor's process started is known, and ended
    guardian    a small process beside each actor's, that does so when nobody else can any more
    tenancy     one job at a time in an exclusive actor, and nothing of it left for the next
    resident    the memory of this process
    exits       a job's tasks that call `sys.exit`
    mailbox     frames on their way
    provenance  are `workers`, `contracts` and `infra` ours?
"""
