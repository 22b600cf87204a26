"""How fast Jetray is, beside others, in one run: `make bench`; docs/benchmarks.md tells what is measured and how.

General layout:

    throughput, latency, backlog, long, two, overload     a section each
    contenders/   who takes part in `throughput`, and the bare loop of `latency`
    stage         a nats-server and processes, ended by their ids; machine tells what they take of the machine
    gateway       Jetray on a stage; kinds are what it runs
    lane          a queue that is filled while it is held, then let go, and how long that takes
    publisher     many messages fast; client and overload_client are publishers in processes of their own
    jobs, verify  the job, and whether every result is there, once, and right
    results, report, plot     medians, ratios and targets; JSON and tables; PNG
    profile       py-spy on a gateway under load: `make bench-profile`
"""
