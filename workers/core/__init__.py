"""Pure decisions about jobs: no I/O, no clock, no randomness. `now` and `jitter` are arguments, commands are data.

General layout:

    log     what a message in hand and two reads of a log tell
    start   the start table: what a delivery may do, given the log
    job     a job's phases, stimuli and commands
    lifecycle
            `decide(job, stimulus)` and its table of transitions, which stand in
    opening     for a message in hand, and how an attempt begins
    ending      while an attempt runs, and how it ends
    parts       what transitions are made of
    outcomes
            what each transition may come to; docs/lifecycle.md is made of it
    retry   how long to wait before another attempt
    scaling how many actors a profile is to have
    watermark
            when a kind is under pressure, and how many children may be published meanwhile
    limits  tokens of a rate, and who runs under which key
    tally   a batch's children, folded from their notices
"""
