"""Where logs go."""

from __future__ import annotations

import logging
import time

from workers.settings_file import masked_text

__all__ = ["to_stderr"]


def to_stderr(level: int = logging.INFO) -> None:
    """Our loggers at `level`, everybody else's from warnings up, on standard error, in UTC."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Masking("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("jetray").setLevel(level)


class _Masking(logging.Formatter):
    """Leaves out users and passwords of URLs, whoever logs them."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """The record as one text, its traceback included."""
        return masked_text(super().format(record))
