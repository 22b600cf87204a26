"""Where jobs run.

General layout:

    base        the Protocol, its values and its errors
    ray         Ray actors
    process     a child process, one job at a time, without Ray
    memory      in this very task, under any clock
"""
