"""Broken inputs for every decoder: `python -m tests.fuzz --inputs 1000000`.

mutate      valid samples, broken in the ways in which bytes break
pieces      what they are broken with
check       what must hold of one decoder and one input
inputs      `inbound.read`, in all its forms
messages    decoders of other messages: events, notices, headers, commands
calls       decoders of what crosses between gateway and actor, and of what models answer
server      decoders of what a nats-server says
decoders    all of them
run         the loop, in child processes whose last input outlives them
"""
