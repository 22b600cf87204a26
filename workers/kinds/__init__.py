"""What runs in actors.

General layout:

    registry        `@job`, `@batch`, and the table of kinds that a gateway knows
    outcomes        what a kind says by value: `Retry`, `Fail`, children of a batch
    shape           what a kind takes and gives, read from its signature
    context         `JobContext`: what a running job may ask and say
    host            runs calls where jobs run, whatever the pool
    deliberation/   kind `deliberation`
    plan            kind `plan`
"""
