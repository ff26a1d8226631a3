"""Structured logs: one line an event, JSON or for people; what libraries log goes the same way.

Every line that an RPC causes carries the id of the request, also those from
threads and from the domain.
"""

from __future__ import annotations

import logging
import secrets
import sys
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

import grpc
import structlog

from edgeward_server.callers import current_caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from structlog.typing import Processor

LogFormat = Literal["json", "console"]

_LOG = structlog.stdlib.get_logger(__name__)
_REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")

# Called every few seconds by load balancers, and of no interest.
_QUIET = "/grpc.health."


def configure_logs(*, log_format: LogFormat, level: str = "INFO") -> None:
    """Set this process's logs up, on stderr; stdout belongs to what the operator must read."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(log_format))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Says at each start what it would do with other databases.
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)


def _rendering(log_format: LogFormat) -> list[Processor]:
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if log_format == "console":
        return [strip, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [strip, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def current_request_id() -> str:
    """The id of the request that this task answers; empty outside of one."""
    return _REQUEST_ID.get()


@asynccontextmanager
async def logged(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """Give a call its id, and log how it ended: method, caller, status, duration."""
    request_id = secrets.token_hex(8)
    _REQUEST_ID.set(request_id)
    structlog.contextvars.bind_contextvars(request=request_id)
    started = time.monotonic()
    end = {"status": "CANCELLED"}  # by the client, unless what follows says otherwise
    try:
        yield
        end = {"status": "OK"}
    except grpc.aio.AbortError:
        end = {"status": context.code().name, "reason": context.details()}
        raise
    finally:
        log = _LOG.debug if method.startswith(_QUIET) else _LOG.info
        duration_s = round(time.monotonic() - started, 4)
        caller = current_caller().description
        log("call", method=method, caller=caller, peer=context.peer(), duration_s=duration_s, **end)
