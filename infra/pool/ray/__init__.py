"""The Ray pool.

General layout:

    address     what `RAY_ADDRESS` may say
    cluster     the Ray underneath: embedded here, joined, or one that this process has anyway
    own_thread  a cluster for the length of a block, in a thread of its own, and watched
    tree        what a process has started, and what that has
    raylet      a joined cluster's raylet on this host, as a child process
    actor       the one actor class, as it runs in Ray's worker
    line        the connection on which calls reach it
    handle      an actor as its gateway sees it
    errors      Ray's exceptions as what they mean for a job
    pool        the pool

Ray takes a second to import, and must find some variables in the environment when it is: so nothing here imports it
while it is itself imported.
"""
