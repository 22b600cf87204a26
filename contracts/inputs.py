"""How a kind reads its input: typed decoding, and the digest that tells whether two inputs are the same."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw

from contracts.codec import Undecodable, canonical, decode

__all__ = ["InputSpec"]

T = TypeVar("T")

_objects: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])


class InputSpec(Generic[T]):
    """How a kind reads its input.

    `id_field` names the input's field that is the job's id. `not_identity` names top-level fields that do not make two
    inputs different. `declares_event_type` is derived: such a kind is never sent envelopes.
    """

    def __init__(
        self, input_type: Any, *, id_field: str | None = None, not_identity: frozenset[str] = frozenset()
    ) -> None:
        self.type = input_type
        self.id_field = id_field
        self.not_identity = not_identity
        self.fields = _field_names(input_type)
        self.declares_event_type = self.fields is not None and "event_type" in self.fields
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(input_type)

    def decode(self, body: bytes, *, foreign: bool = False) -> T:
        """The typed input, or `Undecodable`. Of a `foreign` event, fields that the kind does not name are ignored."""
        if foreign and self.fields is not None:
            fields = decode(_objects, body)
            body = msgspec.json.encode({name: raw for name, raw in fields.items() if name in self.fields})
        try:
            return decode(self._decoder, body)
        except Undecodable:
            raise
        except Exception as error:
            # An input type may bring a `__post_init__` that raises anything.
            raise Undecodable(f"{type(error).__name__}: {error}") from error

    def digest(self, value: T) -> str:
        """sha256 in hex over the canonical bytes of what makes the input itself.

        `Undecodable` where the input cannot be encoded again: neither compared nor handed to whatever runs it.
        """
        try:
            return sha256(canonical(value, self.not_identity)).hexdigest()
        except (TypeError, ValueError) as error:
            raise Undecodable(f"the input cannot be encoded again: {error}") from error


def _field_names(input_type: Any) -> frozenset[str] | None:
    """The encoded names of the fields of an object-like type; None for any other."""
    info = msgspec.inspect.type_info(input_type)
    fields = getattr(info, "fields", None)
    return None if fields is None else frozenset(field.encode_name for field in fields)
