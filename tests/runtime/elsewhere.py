"""A kind made of another module's function."""

from __future__ import annotations

from tests.runtime.deadly import _run
from workers import job

borrowed = job("borrowed")(_run)
