"""Each guard of the protocol taken away in turn: the simulation alone must notice.

General layout:

    guard      what a guard is: what it protects, and the edit that takes it away
    guards     all of them, by what they are about
    mutant     a copy of the packages without one guard
    trial      runs in such a copy: seed after seed, until a promise is broken
    hunt       runs trials in processes of their own, and tells what they found
    __main__   `python -m tests.mutation`
"""
