"""`edgeward-agent run`: the daemon, its signals and its supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from edgeward_agent.artifacts import STEPS
from edgeward_agent.config import RUNTIME_CHOICES, load_config, parse_assignments, parse_node_value
from edgeward_agent.daemon import Daemon
from edgeward_agent.errors import Misuse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from edgeward_agent.config import AgentConfig
    from edgeward_agent.state_dir import StateDir

_LOG = logging.getLogger(__name__)


def run_command(parsed: argparse.Namespace, state_dir: StateDir, *, notify_socket: str, crash_at: str) -> int:
    """Run until SIGTERM or SIGINT.

    Args:
        parsed: The command line.
        state_dir: Of an enrolled device.
        notify_socket: Where systemd wants to hear that the agent is ready; empty: nobody does.
        crash_at: The hook of the crash tests (EDGEWARD_CRASH_AT): the agent kills itself with SIGKILL at this one of
            `artifacts.STEPS`; empty: it does not.
    """
    config = apply_options(load_config(state_dir.config), parsed)
    checkpoint = _checkpoint(crash_at)
    asyncio.run(_run(state_dir, config, checkpoint=checkpoint, notify_socket=notify_socket))
    return 0


def apply_options(config: AgentConfig, parsed: argparse.Namespace) -> AgentConfig:
    """The command line over the file.

    Raises:
        Misuse: An option that can't be.
    """
    for name in parsed.runtime or ():
        if name not in RUNTIME_CHOICES:
            raise Misuse(f"--runtime takes {', '.join(RUNTIME_CHOICES)}, not {name!r}")
    settings = parse_assignments(parsed.node_config, what="--node-config")
    backoff = config.backoff
    if parsed.backoff_max is not None:
        maximum_s = _positive(parsed.backoff_max, "--backoff-max").total_seconds()
        backoff = replace(backoff, initial_s=min(backoff.initial_s, maximum_s), maximum_s=maximum_s)
    return replace(
        config,
        runtimes=tuple(parsed.runtime) if parsed.runtime else config.runtimes,
        node_config={**config.node_config, **{name: parse_node_value(text) for name, text in settings.items()}},
        labels={**config.labels, **parse_assignments(parsed.label, what="--label")},
        heartbeat=config.heartbeat if parsed.heartbeat is None else _positive(parsed.heartbeat, "--heartbeat"),
        report_interval=config.report_interval
        if parsed.report_interval is None
        else _positive(parsed.report_interval, "--report-interval"),
        backoff=backoff,
    )


def notify(address: str, message: str) -> None:
    """Tell the supervisor (sd_notify(3)): one datagram; an address that begins with @ is abstract."""
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        target = "\0" + address[1:] if address.startswith("@") else address
        try:
            channel.sendto(message.encode(), target)
        except OSError as error:
            _LOG.warning("the supervisor at %s can't be told %s: %s", address, message, error)


async def _run(
    state_dir: StateDir, config: AgentConfig, *, checkpoint: Callable[[str], None], notify_socket: str
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if stop.is_set():
            return
        notify(notify_socket, "STOPPING=1")
        stop.set()
        # All state bears a kill at any moment, so what does not end in time is left where it is.
        loop.call_later(config.shutdown_grace.total_seconds(), _give_up)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    daemon = Daemon(state_dir, config, checkpoint=checkpoint)
    await daemon.run(stop, ready=lambda: notify(notify_socket, "READY=1"))
    _LOG.info("stopped")


def _give_up() -> None:
    _LOG.error("stopping took too long; the rest is left as it is")
    os._exit(1)


def _checkpoint(crash_at: str) -> Callable[[str], None]:
    if crash_at and crash_at not in STEPS:
        raise Misuse(f"EDGEWARD_CRASH_AT takes one of {', '.join(STEPS)}, not {crash_at!r}")

    def checkpoint(step: str) -> None:
        if step == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint


def _positive(seconds: float, option: str) -> timedelta:
    if not 0 < seconds < 10**9:
        raise Misuse(f"{option} takes a number of seconds above 0, not {seconds}")
    return timedelta(seconds=seconds)
