"""Who answers for the agents of a council.

General layout:

    base        the Protocol `Model`, and what it is asked
    openai      any OpenAI-compatible endpoint, vLLM included
    prompts     its words
    offline     no language model: text by rules, for trials and tests
    measures    what `offline` can measure in a text
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from workers.kinds.deliberation.config import Providers
from workers.kinds.deliberation.providers import offline, openai
from workers.kinds.deliberation.providers.base import Model
from workers.kinds.deliberation.terms import Terms

__all__ = ["open_model"]


def open_model(terms: Terms, settings: Providers) -> AbstractAsyncContextManager[Model]:
    """The model that the terms name, for as long as one council works. Entering it raises `Misconfigured`."""
    if terms.provider == "openai":
        return openai.open_model(terms, settings.openai)
    return offline.open_model(settings.offline)
