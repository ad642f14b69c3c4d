"""Where log lines go and how they look: stderr, as text or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
import time

from engine.config import Settings


class JsonFormatter(logging.Formatter):
    """time (ISO 8601, UTC), level, logger, message, and error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _iso(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """The same on a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_iso(record)} {record.levelname.lower():7} {record.name}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _iso(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def configure_logging(settings: Settings) -> None:
    """Our own loggers at the level asked for, libraries' at warning."""
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[to_stderr], level=logging.WARNING, force=True)
    for name in ("engine", "kernels"):
        logging.getLogger(name).setLevel(settings.log_level.upper())
