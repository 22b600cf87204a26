"""What runs in actors.

General layout:

    registry        `@job`, `@batch`, and the table of kinds that a gateway knows
    outcomes        what a kind says by value: `Retry`, `Fail`, children of a batch
    shape           what a kind takes and gives, read from its signature
    context         `JobContext`: what a running job may ask and say
    workspaces      directories for attempts
    removal         removes directories that jobs have had their way with
    premises        a process that works in them, one job at a time
    storage         what jobs need of wherever files are kept
    staging         inputs copied into a workspace
    tracking        files of a workspace kept under one commit
    survey          which of them, and which must not be
    below           names below a directory, and the way there
    host            runs calls where jobs run, whatever the pool
    aside           calls functions as if no event loop ran
    deliberation/   kind `deliberation`
    plan            kind `plan`
"""
