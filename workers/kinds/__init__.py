"""What runs in actors.

General layout:

    registry        `@job`, `@batch`, and the table of kinds that a gateway knows
    context         `JobContext`: what a running job may ask and say
    host            runs calls where jobs run, whatever the pool
    deliberation/   kind `deliberation`
    plan            kind `plan`
"""
