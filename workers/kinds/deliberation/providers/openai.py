"""Any endpoint that speaks the protocol of OpenAI's chat completions, vLLM included.

The library does the HTTP and its retries; what comes back is read here, strictly. An answer that cannot be used is an
error with its reason, and nothing ever stands in for it.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import msgspec
from msgspec import Meta, Struct

from contracts.codec import Undecodable, check_depth, decode
from contracts.errors import bounded
from workers.kinds.deliberation.config import OpenAISettings
from workers.kinds.deliberation.errors import Malformed, Misconfigured, ModelError, Rejected, Unreachable
from workers.kinds.deliberation.providers.base import Ask, Mark, Model
from workers.kinds.deliberation.providers.prompts import Messages, messages_for, score_messages, score_schema
from workers.kinds.deliberation.terms import Seat, Task, Terms

if TYPE_CHECKING:
    import openai

__all__ = ["OpenAIModel", "open_model"]

T = TypeVar("T")

_PUBLIC: Final = "api.openai.com"
_CLOSE_S: Final = 2.0
_DEPTH: Final = 32
_SHOWN_BYTES: Final = 300
_HEADER_VALUE: Final = re.compile(r"[!-~]+")
_THINKING: Final = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


class _Said(Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(Struct, frozen=True):
    message: _Said
    finish_reason: str | None = None


class _Completion(Struct, frozen=True):
    choices: list[_Choice]


class _Mark(Struct, frozen=True):
    score: Annotated[float, Meta(ge=0, le=1)]
    reason: Annotated[str, Meta(min_length=1)]


_completions = msgspec.json.Decoder(_Completion)
_marks: msgspec.json.Decoder[dict[str, _Mark]] = msgspec.json.Decoder(dict[str, _Mark])


@asynccontextmanager
async def open_model(terms: Terms, settings: OpenAISettings) -> AsyncIterator[Model]:
    """A client of its own for one council. Raises `Misconfigured` where library, key or model is missing."""
    name = terms.model or settings.model
    if not name:
        raise Misconfigured("setting providers.openai.model is empty and the council names no model")
    key = _key(settings)
    retries = settings.max_retries if terms.max_retries is None else terms.max_retries
    # Importing the library takes about a second and building a client tens of milliseconds: other jobs go on meanwhile.
    library = await anyio.to_thread.run_sync(_library)
    client = await anyio.to_thread.run_sync(
        partial(
            library.AsyncOpenAI,
            # The library refuses an empty key; where there is none, no header with it is sent either.
            api_key=key or "none",
            base_url=settings.base_url,
            timeout=settings.timeout_s,
            max_retries=retries,
        )
    )
    try:
        yield OpenAIModel(library, client, settings, name, has_key=bool(key))
    finally:
        with anyio.move_on_after(_CLOSE_S, shield=True):
            await client.close()


class OpenAIModel:
    """A `Model` at the other end of HTTP."""

    def __init__(self, library: Any, client: openai.AsyncOpenAI, settings: OpenAISettings, name: str, *, has_key: bool):
        self._library = library
        self._client = client
        self._settings = settings
        self._name = name
        self._headers = {} if has_key else {"Authorization": library.omit}

    @property
    def provider(self) -> str:
        """Its name in the settings."""
        return "openai"

    def model_for(self, seat: Seat | None) -> str:
        """The seat's own model, else the council's."""
        return (seat.model if seat is not None else None) or self._name

    async def generate(self, ask: Ask) -> str:
        """The text of the first choice."""
        return await self._complete(self.model_for(ask.seat), messages_for(ask), self._settings.temperature)

    async def score(self, task: Task, proposal: str) -> Mapping[str, Mark]:
        """Marks, from an answer that must be the JSON asked for and nothing else."""
        temperature = None if self._settings.temperature is None else 0.0
        answer = await self._complete(
            self.model_for(None), score_messages(task, proposal), temperature, response_format=self._format(task)
        )
        marks = _read(_marks, answer.encode(), "the scores are not the JSON asked for")
        missing = [name for name in task.rubric if name not in marks]
        if missing:
            raise Malformed(f"the scores lack {', '.join(missing)}")
        return {name: Mark(marks[name].score, marks[name].reason) for name in task.rubric}

    async def _complete(
        self, model: str, messages: Messages, temperature: float | None, *, response_format: Any = None
    ) -> str:
        omit = self._library.omit
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                model=model,
                messages=messages,  # type: ignore[arg-type]  # plain dicts, which is what the library's types are
                temperature=omit if temperature is None else temperature,
                response_format=omit if response_format is None else response_format,
                extra_headers=self._headers,
                extra_body=self._settings.extra_body or None,
            )
        except self._library.OpenAIError as error:
            raise self._translated(error, model) from error
        return _text(_read(_completions, raw.content, "the endpoint's answer is not a chat completion"))

    def _format(self, task: Task) -> Any:
        match self._settings.score_format:
            case "json_schema":
                schema = {"name": "scores", "strict": True, "schema": score_schema(task.rubric)}
                return {"type": "json_schema", "json_schema": schema}
            case "json_object":
                return {"type": "json_object"}
            case "text":
                return None

    def _translated(self, error: Exception, model: str) -> ModelError:
        settings, library = self._settings, self._library
        host = urlsplit(settings.base_url).netloc
        if isinstance(error, library.APITimeoutError):
            return Unreachable(
                f"{host} did not answer within {settings.timeout_s:g} s (setting providers.openai.timeout_s)"
            )
        if isinstance(error, library.APIConnectionError):
            return Unreachable(f"{host} cannot be reached: {error.__cause__ or error}")
        if isinstance(error, library.APIStatusError):
            return Rejected(_refusal(error, host, model, settings.api_key_env), error.status_code)
        return Malformed(f"{host}: {bounded(str(error), _SHOWN_BYTES)}")


def _library() -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError as error:
        raise Misconfigured(
            f"provider openai needs the library of that name ({error}): install jetray[openai] where jobs run"
        ) from error


def _key(settings: OpenAISettings) -> str:
    """The key, or nothing where the endpoint may do without one."""
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key and urlsplit(settings.base_url).hostname == _PUBLIC:
        raise Misconfigured(
            f"environment variable {settings.api_key_env} is not set where jobs run, and {_PUBLIC} needs a key "
            "(setting providers.openai.api_key_env names the variable)"
        )
    if key and not _HEADER_VALUE.fullmatch(key):
        # Further on, the library's own error would show the key.
        raise Misconfigured(f"environment variable {settings.api_key_env} holds what no key holds: a space, for one")
    return key


def _refusal(error: Any, host: str, model: str, variable: str) -> str:
    status = error.status_code
    if status in (401, 403):
        # The endpoint's own words may repeat part of the key.
        return f"{host} answered {status}: the key in environment variable {variable} is missing or not allowed"
    hint = f" (model {model})" if status == 404 else ""
    words = str(error.message).removeprefix(f"Error code: {status} - ")
    return f"{host} answered {status}{hint}: {bounded(words, _SHOWN_BYTES)}"


def _read(decoder: msgspec.json.Decoder[T], body: bytes, complaint: str) -> T:
    try:
        check_depth(body, _DEPTH)
        return decode(decoder, body)
    except Undecodable as error:
        shown = bounded(body.decode("utf-8", "replace"), _SHOWN_BYTES)
        raise Malformed(f"{complaint}: {error}; it begins: {shown}") from error


def _text(completion: _Completion) -> str:
    if not completion.choices:
        raise Malformed("the endpoint answered with no choices")
    choice = completion.choices[0]
    if choice.finish_reason == "length":
        raise Malformed("the answer was cut off at the endpoint's limit of tokens (finish_reason length)")
    if choice.finish_reason == "content_filter" or choice.message.refusal:
        raise Malformed(f"the model refused: {bounded(choice.message.refusal or 'content filter', _SHOWN_BYTES)}")
    # Some endpoints leave the model's thinking in front of the answer.
    text = _THINKING.sub("", choice.message.content or "", count=1).strip()
    if not text:
        raise Malformed("the endpoint answered with an empty message")
    return text
