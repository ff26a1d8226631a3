"""The parser, and the frame around every command: one sentence on stderr where it fails, a trace only with -v.

The environment is read here and nowhere below: EDGEWARD_STATE_DIR, NOTIFY_SOCKET
(systemd), EDGEWARD_CRASH_AT (see `run`). Each command's modules are imported when
it runs, so that a prediction does not wait for grpc.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.protocol import WireError
from edgeward_agent.errors import AgentError, Misuse
from edgeward_agent.state_dir import DEFAULT_STATE_DIR, StateDir
from edgeward_compression.runtimes import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOG = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0, 1 for what failed, 2 for what was asked wrongly.
    """
    parsed = _parser(os.environ.get("EDGEWARD_STATE_DIR") or str(DEFAULT_STATE_DIR)).parse_args(arguments)
    # gRPC's C core writes what it finds remarkable to stderr; the agent tells failures in its own words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.basicConfig(
        level=logging.DEBUG if parsed.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    command: Callable[[argparse.Namespace, StateDir], int] = parsed.command
    try:
        return command(parsed, StateDir(Path(parsed.state_dir).absolute()))
    except KeyboardInterrupt:
        return 130
    except (Misuse, WireError) as error:
        return _fail(error, status=2)
    except (AgentError, ModelError, OSError) as error:
        return _fail(error, status=1)
    except Exception as error:  # noqa: BLE001 - the outermost frame of the process
        cause = _only_cause(error)
        return _fail(f"an unexpected {type(cause).__name__}: {cause}", status=1)


def _only_cause(error: BaseException) -> BaseException:
    """What went wrong in a group of tasks, where it was one thing: the group's own words say nothing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _fail(error: object, *, status: int) -> int:
    _LOG.debug("the trace", exc_info=True)
    sys.stderr.write(f"edgeward-agent: {error}\n")
    return status


def _parser(default_state_dir: str) -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--state-dir",
        metavar="DIR",
        default=default_state_dir,
        help="where the agent keeps its identity, models and telemetry (EDGEWARD_STATE_DIR; now %(default)s)",
    )
    shared.add_argument("-v", "--verbose", action="store_true", help="say more, and give traces")
    parser = argparse.ArgumentParser(prog="edgeward-agent", description="Edgeward on this device.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_enroll(commands.add_parser("enroll", parents=[shared], help="become a member of a fleet"))
    _add_run(commands.add_parser("run", parents=[shared], help="run the agent"))
    _add_predict(commands.add_parser("predict", parents=[shared], help="ask a model that is installed here"))
    _add_feedback(commands.add_parser("feedback", parents=[shared], help="say how good a version's answers were"))
    _add_link(commands.add_parser("link", parents=[shared], help="say whether the link is metered"))
    _add_status(commands.add_parser("status", parents=[shared], help="show what is on this device"))
    return parser


def _add_enroll(parser: argparse.ArgumentParser) -> None:
    def command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
        from edgeward_agent.cli.enroll import enroll_command

        return enroll_command(parsed, state_dir)

    parser.add_argument("string", metavar="STRING", help="from `edgeward devices token` on the coordinator")
    parser.add_argument("--name", help="how people call this device (by default its host name)")
    parser.add_argument("--label", metavar="KEY=VALUE", action="append", default=[], help="a label; may be repeated")
    parser.add_argument("--force", action="store_true", help="replace the identity that is there")
    parser.set_defaults(command=command)


def _add_run(parser: argparse.ArgumentParser) -> None:
    def command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
        from edgeward_agent.cli.run import run_command

        return run_command(
            parsed,
            state_dir,
            notify_socket=os.environ.get("NOTIFY_SOCKET", ""),
            crash_at=os.environ.get("EDGEWARD_CRASH_AT", ""),
        )

    parser.add_argument(
        "--runtime", metavar="NAME", action="append", help="use only this format (onnx, tflite) or runtime; repeatable"
    )
    parser.add_argument(
        "--node-config", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="what training code reads"
    )
    parser.add_argument("--label", metavar="KEY=VALUE", action="append", default=[], help="a label; may be repeated")
    parser.add_argument("--heartbeat", metavar="SECONDS", type=float, help="between heartbeats")
    parser.add_argument("--report-interval", metavar="SECONDS", type=float, help="between uploads of telemetry")
    parser.add_argument("--backoff-max", metavar="SECONDS", type=float, help="the longest wait before another attempt")
    parser.set_defaults(command=command)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    def command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
        from edgeward_agent.cli.predict import predict_command

        return predict_command(parsed, state_dir)

    parser.add_argument("--model", metavar="NAME", required=True)
    parser.add_argument("--input", metavar="FILE", type=Path, required=True, help="arrays as .npz or .json")
    parser.add_argument("--output", metavar="FILE", default="-", help="an .npz, or - for JSON on stdout (the default)")
    parser.add_argument("--key", metavar="TEXT", help="whom it is about: in an A/B test, a key has one version")
    parser.set_defaults(command=command)


def _add_feedback(parser: argparse.ArgumentParser) -> None:
    def command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
        from edgeward_agent.cli.feedback import feedback_command

        return feedback_command(parsed, state_dir)

    parser.add_argument("--model", metavar="NAME", required=True)
    parser.add_argument("--version", metavar="N", type=int, required=True, help="which gave the answers")
    parser.add_argument("--flavor", metavar="NAME", default="", help="which gave the answers, if it matters")
    parser.add_argument("--labelled", metavar="N", type=int, required=True, help="answers whose truth is known")
    parser.add_argument("--correct", metavar="N", type=int, required=True, help="how many of these were right")
    parser.set_defaults(command=command)


def _add_link(parser: argparse.ArgumentParser) -> None:
    def command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
        from edgeward_agent.cli.link import link_command

        return link_command(parsed, state_dir)

    parser.add_argument("kind", choices=["metered", "unmetered"], nargs="?", help="left out: what was said last")
    parser.set_defaults(command=command)


def _add_status(parser: argparse.ArgumentParser) -> None:
    def command(parsed: argparse.Namespace, state_dir: StateDir) -> int:
        from edgeward_agent.cli.status import status_command

        return status_command(parsed, state_dir)

    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(command=command)
