"""What Jetray is measured beside. Each has one round played by `play`, and its workers in processes of their own.

General layout:

    base          a round, and the queue and results that contenders on NATS share
    own_ray       a Ray for those that need one
    jetray        the gateway as it is deployed
    raw_ray       `await actor.f.remote(payload)`, alone and with many jobs a call; raw_ray_app is the process
    nats_alone    pull, publish, acknowledge, with Jetray's own bus; nats_alone_app is the process
    taskiq_nats   two workers of taskiq on JetStream; taskiq_app is what they run
    faststream    one FastStream process on JetStream; faststream_app is it
    celery_redis  two processes of Celery on Redis; celery_app is what they run, celery_driver publishes and waits
    bare_app      the loop that anybody would write first, for latency
"""
