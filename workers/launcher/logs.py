"""Where logs go."""

from __future__ import annotations

import logging
import time

__all__ = ["to_stderr"]


def to_stderr(level: int = logging.INFO) -> None:
    """Our loggers at `level`, everybody else's from warnings up, on standard error, in UTC."""
    handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("jetray").setLevel(level)
