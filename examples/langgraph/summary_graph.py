"""A LangGraph graph as a workflow: shorten a text by leaving out its least telling sentences.

Its nodes are plain code, so that it gives the same result each time, offline. A node that asks a language model stands
in the same place.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from msgspec import Struct

from workers import Fail, JobContext, workflow


class Wanted(Struct):
    """A variant's parameters."""

    text: str
    words: int
    """That the summary may have."""


class Draft(TypedDict, total=False):
    """What the nodes hand on."""

    text: str
    words: int
    """That the summary may have."""
    sentences: list[str]
    weights: list[float]
    """Of each sentence, 0 to 1."""
    told: float
    """The share of all weight that is still there."""


def split(draft: Draft) -> Draft:
    """The text as sentences."""
    return {"sentences": re.findall(r"[^\s.!?][^.!?]*[.!?]", draft["text"]), "told": 1.0}


def weigh(draft: Draft) -> Draft:
    """A sentence tells the more, the more often its words occur in the text."""
    sentences = [re.findall(r"\w+", sentence.lower()) for sentence in draft["sentences"]]
    often = Counter(word for sentence in sentences for word in set(sentence))
    weights = [sum(often[word] for word in sentence) / len(sentence) for sentence in sentences]
    return {"weights": [weight / sum(weights) for weight in weights]}


def drop(draft: Draft) -> Draft:
    """Leave out the sentence that tells least."""
    least = draft["weights"].index(min(draft["weights"]))
    return {
        "sentences": [*draft["sentences"][:least], *draft["sentences"][least + 1 :]],
        "weights": [*draft["weights"][:least], *draft["weights"][least + 1 :]],
        "told": draft["told"] - draft["weights"][least],
    }


def review(draft: Draft) -> str:
    """Whether it is short enough."""
    length = sum(len(sentence.split()) for sentence in draft["sentences"])
    return END if length <= draft["words"] or len(draft["sentences"]) == 1 else "drop"


def build() -> Any:
    """split → weigh → drop, drop, … until it is short enough."""
    graph = StateGraph(Draft)
    graph.add_node("split", split)
    graph.add_node("weigh", weigh)
    graph.add_node("drop", drop)
    graph.add_edge(START, "split")
    graph.add_edge("split", "weigh")
    graph.add_conditional_edges("weigh", review, ["drop", END])
    graph.add_conditional_edges("drop", review, ["drop", END])
    return graph.compile()


@workflow("summary")
def summarize(ctx: JobContext, wanted: Wanted) -> dict[str, Any]:
    """One variant. Each node that ran is reported as a step."""
    draft: Draft = {"text": wanted.text, "words": wanted.words}
    if not split(draft)["sentences"]:
        raise Fail("the text holds no sentence")
    steps = 0
    for mode, told in build().stream(draft, stream_mode=["updates", "values"]):
        if mode == "values":
            draft = told
            continue
        for step in told:
            steps += 1
            ctx.progress(step=step, done=steps)
    summary = " ".join(draft["sentences"])
    (ctx.workspace / "output" / "summary.txt").write_text(summary, encoding="utf-8")
    return {
        "score": round(draft["told"], 3),
        "metrics": {"words": len(summary.split()), "steps": steps},
        "output": summary,
    }
