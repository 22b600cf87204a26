"""Kind `deliberation`: a council of agents proposes, criticises, revises, and is scored.

General layout:

    kind        the kind itself: from message to result
    config      its settings
    errors      how a council fails
    terms       what the settings and one message come to
    council     the procedure: who is asked what, in which order, and what a failed call means
    ranking     scores to ranking to winner
    reports     what a council says while it works
    providers/  who answers: `openai`, and `offline`, which is no language model
"""

from workers.kinds.deliberation.config import DeliberationConfig
from workers.kinds.deliberation.kind import DeliberationKind

__all__ = ["DeliberationConfig", "DeliberationKind"]
