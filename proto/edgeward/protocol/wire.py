"""The dataclasses of `model` and `state` as protobuf messages, and back with checks.

Where a message comes from the other end, lengths are bounded and enumerations
parsed, so that nothing behind this module needs to doubt a value's form.
"""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import TYPE_CHECKING

from edgeward.protocol.digests import parse_digest
from edgeward.protocol.errors import WireError
from edgeward.protocol.instants import instant_from_timestamp, timestamp_from_instant
from edgeward.protocol.model import MAX_ITEMS, Flavor, Signature, TensorSpec, parse_format, parse_precision
from edgeward.protocol.state import (
    CandidateMode,
    ConfigValue,
    DesiredCandidate,
    DesiredModel,
    DesiredState,
    Heartbeat,
    Hello,
    Inventory,
    ModelState,
    ProbationRules,
    ReportedCandidate,
    ReportedModel,
    ReportedState,
    RunInvitation,
    RuntimeInfo,
    Welcome,
)
from edgeward.v1 import agent_pb2, model_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence


def signature_to_message(signature: Signature) -> model_pb2.Signature:
    """To its message; a dynamic axis is -1."""
    return model_pb2.Signature(
        inputs=[_tensor_to_message(spec) for spec in signature.inputs],
        outputs=[_tensor_to_message(spec) for spec in signature.outputs],
    )


def signature_from_message(message: model_pb2.Signature) -> Signature:
    """From its message."""
    _bound(message.inputs, "inputs")
    _bound(message.outputs, "outputs")
    return Signature(
        inputs=tuple(_tensor_from_message(tensor) for tensor in message.inputs),
        outputs=tuple(_tensor_from_message(tensor) for tensor in message.outputs),
    )


def flavor_to_message(flavor: Flavor) -> model_pb2.Flavor:
    """To its message."""
    return model_pb2.Flavor(
        name=flavor.name,
        format=flavor.format,
        precision=flavor.precision,
        sha256=flavor.digest,
        total_bytes=flavor.total_bytes,
        golden_sha256=flavor.golden_digest or "",
        golden_bytes=flavor.golden_bytes,
        signature=signature_to_message(flavor.signature),
    )


def flavor_from_message(message: model_pb2.Flavor) -> Flavor:
    """From its message."""
    return Flavor(
        name=message.name,
        format=parse_format(message.format),
        precision=parse_precision(message.precision),
        digest=parse_digest(message.sha256),
        total_bytes=message.total_bytes,
        golden_digest=parse_digest(message.golden_sha256) if message.golden_sha256 else None,
        golden_bytes=message.golden_bytes,
        signature=signature_from_message(message.signature),
    )


def desired_to_message(desired: DesiredState) -> agent_pb2.DesiredState:
    """To its message."""
    return agent_pb2.DesiredState(
        generation=desired.generation, models=[_desired_model_to_message(model) for model in desired.models]
    )


def desired_from_message(message: agent_pb2.DesiredState) -> DesiredState:
    """From its message."""
    _bound(message.models, "models")
    return DesiredState(
        generation=message.generation, models=tuple(_desired_model_from_message(model) for model in message.models)
    )


def reported_to_message(reported: ReportedState) -> agent_pb2.ReportedState:
    """To its message."""
    return agent_pb2.ReportedState(
        generation=reported.generation, models=[_reported_model_to_message(model) for model in reported.models]
    )


def reported_from_message(message: agent_pb2.ReportedState) -> ReportedState:
    """From its message."""
    _bound(message.models, "models")
    return ReportedState(
        generation=message.generation, models=tuple(_reported_model_from_message(model) for model in message.models)
    )


def inventory_to_message(inventory: Inventory) -> agent_pb2.Inventory:
    """To its message."""
    return agent_pb2.Inventory(
        agent_version=inventory.agent_version,
        architecture=inventory.architecture,
        system=inventory.system,
        python=inventory.python,
        cores=inventory.cores,
        memory_bytes=inventory.memory_bytes,
        runtimes=[agent_pb2.Runtime(name=runtime.name, version=runtime.version) for runtime in inventory.runtimes],
        can_train=inventory.can_train,
    )


def inventory_from_message(message: agent_pb2.Inventory) -> Inventory:
    """From its message."""
    _bound(message.runtimes, "runtimes")
    return Inventory(
        agent_version=message.agent_version,
        architecture=message.architecture,
        system=message.system,
        python=message.python,
        cores=message.cores,
        memory_bytes=message.memory_bytes,
        runtimes=tuple(RuntimeInfo(name=runtime.name, version=runtime.version) for runtime in message.runtimes),
        can_train=message.can_train,
    )


def hello_to_message(hello: Hello) -> agent_pb2.Hello:
    """To its message."""
    return agent_pb2.Hello(
        inventory=inventory_to_message(hello.inventory),
        labels=dict(hello.labels),
        reported=reported_to_message(hello.reported),
        outbox_records=hello.outbox_records,
    )


def hello_from_message(message: agent_pb2.Hello) -> Hello:
    """From its message."""
    _bound(message.labels, "labels")
    return Hello(
        inventory=inventory_from_message(message.inventory),
        labels=dict(message.labels),
        reported=reported_from_message(message.reported),
        outbox_records=message.outbox_records,
    )


def heartbeat_to_message(heartbeat: Heartbeat) -> agent_pb2.Heartbeat:
    """To its message."""
    return agent_pb2.Heartbeat(
        at=timestamp_from_instant(heartbeat.at),
        outbox_records=heartbeat.outbox_records,
        outbox_bytes=heartbeat.outbox_bytes,
        resident_bytes=heartbeat.resident_bytes,
    )


def heartbeat_from_message(message: agent_pb2.Heartbeat) -> Heartbeat:
    """From its message."""
    return Heartbeat(
        at=instant_from_timestamp(message.at),
        outbox_records=message.outbox_records,
        outbox_bytes=message.outbox_bytes,
        resident_bytes=message.resident_bytes,
    )


def welcome_to_message(welcome: Welcome) -> agent_pb2.Welcome:
    """To its message."""
    return agent_pb2.Welcome(
        device_id=welcome.device_id,
        group=welcome.group,
        heartbeat_s=welcome.heartbeat_s,
        at=timestamp_from_instant(welcome.at),
    )


def welcome_from_message(message: agent_pb2.Welcome) -> Welcome:
    """From its message."""
    if not 0 < message.heartbeat_s < math.inf:
        raise WireError(f"a heartbeat every {message.heartbeat_s} seconds is none")
    return Welcome(
        device_id=message.device_id,
        group=message.group,
        heartbeat_s=message.heartbeat_s,
        at=instant_from_timestamp(message.at),
    )


def invitation_to_message(invitation: RunInvitation) -> agent_pb2.RunInvitation:
    """To its message."""
    return agent_pb2.RunInvitation(
        run_id=invitation.run_id,
        message_id=invitation.message_id,
        message_sha256=invitation.message_digest,
        message_bytes=invitation.message_bytes,
        bundle_sha256=invitation.bundle_digest,
        bundle_bytes=invitation.bundle_bytes,
        deadline=timestamp_from_instant(invitation.deadline),
        run_config_json=json.dumps(dict(invitation.run_config)),
    )


def invitation_from_message(message: agent_pb2.RunInvitation) -> RunInvitation:
    """From its message.

    Raises:
        WireError: A digest, the deadline or the run's settings can't be read.
    """
    return RunInvitation(
        run_id=message.run_id,
        message_id=message.message_id,
        message_digest=parse_digest(message.message_sha256),
        message_bytes=message.message_bytes,
        bundle_digest=parse_digest(message.bundle_sha256),
        bundle_bytes=message.bundle_bytes,
        deadline=instant_from_timestamp(message.deadline),
        run_config=_parse_run_config(message.run_config_json),
    )


def _desired_model_to_message(model: DesiredModel) -> agent_pb2.DesiredModel:
    candidate = model.candidate
    return agent_pb2.DesiredModel(
        model=model.model,
        version=model.version,
        flavors=[flavor_to_message(flavor) for flavor in model.flavors],
        release=model.release,
        probation=agent_pb2.Probation(
            duration_s=model.probation.duration.total_seconds(),
            min_predictions=model.probation.min_predictions,
            max_error_ratio=model.probation.max_error_ratio,
        ),
        candidate=None
        if candidate is None
        else agent_pb2.Candidate(
            version=candidate.version,
            flavors=[flavor_to_message(flavor) for flavor in candidate.flavors],
            mode=candidate.mode.value,
            share=candidate.share,
        ),
    )


def _desired_model_from_message(message: agent_pb2.DesiredModel) -> DesiredModel:
    _bound(message.flavors, "flavors")
    return DesiredModel(
        model=message.model,
        version=message.version,
        flavors=tuple(flavor_from_message(flavor) for flavor in message.flavors),
        release=message.release,
        probation=_probation_from_message(message.probation) if message.HasField("probation") else ProbationRules(),
        candidate=_candidate_from_message(message.candidate) if message.HasField("candidate") else None,
    )


def _probation_from_message(message: agent_pb2.Probation) -> ProbationRules:
    # A year; what is longer is no probation, and would not fit into a timedelta at some point.
    if not 0 <= message.duration_s <= 366 * 86400:
        raise WireError(f"a probation of {message.duration_s} s")
    return ProbationRules(
        duration=timedelta(seconds=message.duration_s),
        min_predictions=message.min_predictions,
        max_error_ratio=_parse_ratio(message.max_error_ratio),
    )


def _candidate_from_message(message: agent_pb2.Candidate) -> DesiredCandidate:
    _bound(message.flavors, "flavors")
    return DesiredCandidate(
        version=message.version,
        flavors=tuple(flavor_from_message(flavor) for flavor in message.flavors),
        mode=_parse_mode(message.mode),
        share=_parse_ratio(message.share),
    )


def _reported_model_to_message(model: ReportedModel) -> agent_pb2.ReportedModel:
    candidate = model.candidate
    return agent_pb2.ReportedModel(
        model=model.model,
        version=model.version,
        flavor=model.flavor,
        state=model.state.value,
        error=model.error,
        wanted_version=model.wanted_version,
        runtime=model.runtime,
        release=model.release,
        candidate=None
        if candidate is None
        else agent_pb2.ReportedCandidate(
            version=candidate.version,
            flavor=candidate.flavor,
            mode=candidate.mode.value,
            state=candidate.state.value,
            error=candidate.error,
        ),
    )


def _reported_model_from_message(message: agent_pb2.ReportedModel) -> ReportedModel:
    candidate = message.candidate
    return ReportedModel(
        model=message.model,
        version=message.version,
        flavor=message.flavor,
        state=_parse_model_state(message.state),
        wanted_version=message.wanted_version,
        runtime=message.runtime,
        error=message.error,
        release=message.release,
        candidate=None
        if not message.HasField("candidate")
        else ReportedCandidate(
            version=candidate.version,
            flavor=candidate.flavor,
            mode=_parse_mode(candidate.mode),
            state=_parse_model_state(candidate.state),
            error=candidate.error,
        ),
    )


def _parse_mode(text: str) -> CandidateMode:
    try:
        return CandidateMode(text)
    except ValueError as error:
        raise WireError(f"unknown mode of a candidate {text[:40]!r}") from error


def _parse_ratio(value: float) -> float:
    if not 0 <= value <= 1:
        raise WireError(f"{value} is no share from 0 to 1")
    return value


def _parse_run_config(text: str) -> dict[str, ConfigValue]:
    try:
        config = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise WireError(f"the run's settings are no JSON: {text[:40]!r}") from error
    if not isinstance(config, dict) or not all(isinstance(value, str | int | float) for value in config.values()):
        raise WireError(f"the run's settings are no flat JSON object: {text[:40]!r}")
    return config


def _tensor_to_message(spec: TensorSpec) -> model_pb2.Tensor:
    shape = [-1 if axis is None else axis for axis in spec.shape]
    return model_pb2.Tensor(name=spec.name, dtype=spec.dtype, shape=shape)


def _tensor_from_message(message: model_pb2.Tensor) -> TensorSpec:
    _bound(message.shape, "axes")
    shape = tuple(None if axis < 0 else axis for axis in message.shape)
    return TensorSpec(name=message.name, dtype=message.dtype, shape=shape)


def _parse_model_state(text: str) -> ModelState:
    try:
        return ModelState(text)
    except ValueError as error:
        raise WireError(f"unknown model state {text[:40]!r}") from error


def _bound(items: Sequence[object] | object, what: str) -> None:
    count = len(items)  # type: ignore[arg-type]
    if count > MAX_ITEMS:
        raise WireError(f"{count} {what} in one message; at most {MAX_ITEMS} are believed")
