"""A workflow: how well does a prompt's wording make a model keep to a length? Plain code stands for the model.

Its score is the same each time, offline. A call to a language model stands in the same place.
"""

from __future__ import annotations

import csv
from typing import Any, Literal

from msgspec import Struct

from workers import JobContext, workflow

QUESTIONS = ("What is a queue?", "Why retry?", "What does a lease do?")


class Prompt(Struct):
    """A variant's parameters."""

    tone: Literal["plain", "strict"]
    words: int
    """That an answer may have."""


@workflow("examples.prompt_search")
def search(ctx: JobContext, prompt: Prompt) -> dict[str, Any]:
    """Ask each question; the score is the share of answers that keep to the length."""
    kept = []
    with (ctx.workspace / "output" / "answers.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        for done, question in enumerate(QUESTIONS, 1):
            answer = ask(question, prompt)
            rows.writerow([question, answer])
            kept.append(len(answer.split()) <= prompt.words)
            ctx.progress(done=done, total=len(QUESTIONS))
    return {"score": sum(kept) / len(kept), "metrics": {"kept": sum(kept)}, "output": {"tone": prompt.tone}}


def ask(question: str, prompt: Prompt) -> str:
    """What the model would say: it runs on, and less so where the prompt is strict about it."""
    runs_on = len(question) // (4 if prompt.tone == "strict" else 2)
    return " ".join(["word"] * (prompt.words // 2 + runs_on))
