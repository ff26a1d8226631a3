"""Who makes the call that is being answered.

The access interceptor finds it out and sets it for the task of the call; a
servicer asks with `current_caller`. Threads started by `in_thread` see it too.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward_coordinator.errors import PermissionDenied

if TYPE_CHECKING:
    from edgeward_coordinator.access import Principal
    from edgeward_coordinator.fleet import DeviceIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A device, an operator, or nobody in particular.

    Attributes:
        device: Set where a device calls.
        principal: Set where an operator calls.
        description: In words, for messages and logs: "the token 'ci'".
    """

    device: DeviceIdentity | None = None
    principal: Principal | None = None
    description: str = "an unknown caller"

    @property
    def device_id(self) -> str | None:
        """The calling device's id."""
        return None if self.device is None else self.device.id

    def require_device(self) -> DeviceIdentity:
        """The calling device.

        Raises:
            PermissionDenied: No device calls.
        """
        if self.device is None:
            raise PermissionDenied(f"this call is for devices, and {self.description} is none")
        return self.device

    def require_principal(self) -> Principal:
        """The calling operator.

        Raises:
            PermissionDenied: No operator calls.
        """
        if self.principal is None:
            raise PermissionDenied(f"this call is for operators, and {self.description} is none")
        return self.principal


NOBODY = Caller()

_CALLER: ContextVar[Caller] = ContextVar("caller", default=NOBODY)


def current_caller() -> Caller:
    """Who makes the call that this task answers."""
    return _CALLER.get()


def set_caller(caller: Caller) -> None:
    """Say who makes it; for the interceptor, once a call. Each call has a task, hence a context, of its own."""
    _CALLER.set(caller)
