"""Blocking steps of an installation, off the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_thread(step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run a step in a thread, to its end even if the installation is cancelled meanwhile.

    A step that went on behind the back of the next installation would write into the same slot.
    """
    running = asyncio.create_task(asyncio.to_thread(step, *args, **kwargs), name="install step")
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
