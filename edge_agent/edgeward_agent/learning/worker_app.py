"""A Flower ClientApp, loaded once and asked again and again: message bytes in, reply bytes out."""

from __future__ import annotations

import tomllib
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import LoadClientAppError
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_from_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from flwr.supercore.object_ref import load_app
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.state import ConfigValue

_MAX_REASON = 1000


class UnreadableMessage(Exception):
    """Not even an error can be replied to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply; `state` is the app's afterwards, None where it stays as it was."""

    reply: bytes
    state: bytes | None


class ClientAppHost:
    """Answers the messages of one run.

    Args:
        app: The unpacked bundle.
        run_config: The app's settings in this run.
        node_config: The device's.
    """

    def __init__(
        self, app: Path, *, run_config: Mapping[str, ConfigValue], node_config: Mapping[str, ConfigValue]
    ) -> None:
        self._app = app
        self._run_config = dict(run_config)
        self._node_config = dict(node_config)
        self._loaded: ClientApp | None = None

    def answer(self, data: bytes, state: bytes | None) -> Answer:
        """Have the app answer; what it raises becomes an error reply, and the state stays.

        Args:
            data: The message.
            state: What the app kept since its last message.

        Raises:
            UnreadableMessage: The data is no message.
        """
        message = _decode(data)
        context = Context(
            run_id=message.metadata.run_id,
            node_id=message.metadata.dst_node_id,
            node_config=self._node_config,
            state=_decode_state(state),
            run_config=self._run_config,
        )
        code = ErrorCode.LOAD_CLIENT_APP_EXCEPTION
        try:
            app = self._load()
            code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
            reply = app(message, context)
            encoded = message_to_proto(reply).SerializeToString()
            kept = recorddict_to_proto(context.state).SerializeToString()
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever the app does wrong is the app's answer
            traceback.print_exc()
            return Answer(reply=_error_reply(message, code, _describe(error)), state=None)
        return Answer(reply=encoded, state=kept)

    def _load(self) -> ClientApp:
        if self._loaded is None:
            document = tomllib.loads((self._app / "pyproject.toml").read_text(encoding="utf-8"))
            reference = document["tool"]["flwr"]["app"]["components"]["clientapp"]
            loaded = load_app(reference, LoadClientAppError, self._app)
            if not isinstance(loaded, ClientApp):
                raise LoadClientAppError(f"{reference} is a {type(loaded).__name__}, not a flwr.clientapp.ClientApp")
            self._loaded = loaded
        return self._loaded


def error_reply(data: bytes, reason: str) -> bytes:
    """A reply that says that the app's process could not answer.

    Raises:
        UnreadableMessage: The data is no message.
    """
    return _error_reply(_decode(data), ErrorCode.CLIENT_APP_CRASHED, reason[:_MAX_REASON])


def _decode(data: bytes) -> Message:
    try:
        return message_from_proto(MessageProto.FromString(data))
    except (DecodeError, LookupError, TypeError, ValueError) as error:
        raise UnreadableMessage(f"no Flower message: {error}") from error


def _decode_state(data: bytes | None) -> RecordDict:
    return RecordDict() if data is None else recorddict_from_proto(RecordDictProto.FromString(data))


def _error_reply(message: Message, code: int, reason: str) -> bytes:
    return bytes(message_to_proto(Message(Error(code, reason), reply_to=message)).SerializeToString())


def _describe(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({Path(last[0].filename).name}:{last[0].lineno})" if last else ""
    return f"{type(error).__name__}: {error}{where}"[:_MAX_REASON]
