"""The wire: every subject, header, inbound form, event and body that Jetray puts on the bus or takes from it.

General layout:

    tokens      what may stand between two dots of a subject
    subjects    every subject and stream name, built and taken apart
    headers     every header name
    errors      the error body and its reasons
    events      the events of a job log
    cloudevents the headers that stand beside them
    agents      what agents of a council say (`agent.response.*`)
    fleet       what gateways say of themselves (`workers.*`) and KV `workers`
    control     commands and their answers
    joins       notices that a child of a batch ended
    dlq         the headers of a dead letter
    codec       bytes to values and back, bounded in depth
    inputs      how a kind reads its input
    forms       the three forms of a message in
    own_headers our own headers on messages in
    inbound     a message in: job id and input, or a refusal
    calls       what crosses between a gateway and the place where a job runs
    plan, deliberation
                inputs and results of the kinds that ship
    catalogue   KV `kinds`: what may be sent to a kind
    asyncapi    the whole as an AsyncAPI 3.0 document, with its messages and schemas in modules of their own

Nothing here imports anything of ours outside this package, and nothing here does I/O.
"""
