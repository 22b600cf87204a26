"""Kind `score-text`: how easy a text is to read, by the length of its sentences."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

from workers import Fail, JobContext, job


class Text(Struct):
    """What a message to jobs.score-text holds."""

    text_id: str
    text: str


class Sentence(Struct):
    """One sentence that is too long."""

    words: int
    begins: str


class Score(Struct):
    """What its `completed` event tells."""

    score: float
    """The share of sentences that are short enough, 0 to 1."""
    sentences: int
    too_long: list[Sentence]


class Reading(Struct):
    """Its settings: `[kinds.settings.score-text.config]` in jetray.toml."""

    longest: Annotated[int, Meta(ge=1)] = 25
    """Words that a sentence may have."""


@job("score-text", id_field="text_id")
class ScoreText:
    """The share of sentences that are short enough, and which are not."""

    def __init__(self, reading: Reading) -> None:
        self._longest = reading.longest

    async def run(self, ctx: JobContext, task: Text) -> Score | Fail:
        """Read sentence by sentence."""
        sentences = [words for part in re.split(r"[.!?]+\s*", task.text) if (words := part.split())]
        if not sentences:
            return Fail("the text holds no sentence")
        too_long = []
        for done, words in enumerate(sentences, start=1):
            if len(words) > self._longest:
                too_long.append(Sentence(words=len(words), begins=" ".join(words[:5])))
            ctx.progress(done=done, total=len(sentences))
        return Score(score=1 - len(too_long) / len(sentences), sentences=len(sentences), too_long=too_long)
