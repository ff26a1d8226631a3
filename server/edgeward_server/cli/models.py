"""The registry: `models push/list/show/pull/compress/approve/withdraw`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edgeward.protocol.digests import Digest, digest_of_file, parse_digest
from edgeward.v1 import job_pb2, registry_pb2
from edgeward_server.cli.arguments import JsonFlag, ModelArgument, ReasonOption
from edgeward_server.cli.invocation import invocation_of
from edgeward_server.cli.parsing import ModelReference
from edgeward_server.cli.plain import as_plain
from edgeward_server.cli.rendering import flavors_sheet, models_sheet, signature_sheet, version_facts
from edgeward_server.cli.trust_sheets import waiting_in_words
from edgeward_server.client import CHECK_DEADLINE_S, Client, ClientError, Refused, download, follow, upload
from edgeward_server.terminal.screen import Screen

FlavorOption = Annotated[str, typer.Option("--flavor", help="Which flavor, as in onnx-int8.", metavar="NAME")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    models = typer.Typer(help="Models, their versions and flavors.", no_args_is_help=True)
    models.command("push")(push_model)
    models.command("list")(list_models)
    models.command("show")(show_model)
    models.command("pull")(pull_model)
    models.command("compress")(compress_model)
    models.command("approve")(approve_version)
    models.command("withdraw")(withdraw_version)
    app.add_typer(models, name="models")


def push_model(
    ctx: typer.Context,
    name: str,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="ONNX or TFLite.")],
    *,
    golden: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE.npz", help="Arrays input.NAME and output.NAME."),
    ] = None,
    parent: Annotated[int, typer.Option(help="The version that this one comes from.", min=0)] = 0,
    note: Annotated[str, typer.Option(help="Kept with the version.", metavar="TEXT")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Put a model file into the registry as a new version; an interrupted upload goes on where it stopped."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    with invocation.connect() as client:
        artifact = _upload_file(client, file, screen)
        golden_digest = _upload_file(client, golden, screen) if golden else ""
        request = registry_pb2.CreateVersionRequest(
            model=name,
            artifact_sha256=artifact,
            golden_sha256=golden_digest,
            lineage=registry_pb2.Lineage(parent_version=parent, note=note),
        )
        version = client.registry.CreateVersion(request, timeout=CHECK_DEADLINE_S).version
    if as_json:
        screen.show_json(as_plain(version))
        return
    screen.say(f"{version.model}:{version.version}")
    for registered in version.flavors:
        screen.show(signature_sheet(registered.flavor))


def list_models(ctx: typer.Context, *, as_json: JsonFlag = False) -> None:
    """List the models."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        models = client.registry.ListModels(registry_pb2.ListModelsRequest()).models
    if as_json:
        invocation.screen.show_json([as_plain(model) for model in models])
        return
    invocation.screen.show(models_sheet(models, invocation.screen.instant))


def show_model(ctx: typer.Context, model: ModelArgument, *, as_json: JsonFlag = False) -> None:
    """Show a version: where it comes from, its flavors, its signature; without a version, all of them."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    with invocation.connect() as client:
        request = registry_pb2.GetModelRequest(model=model.name, version=model.version)
        versions = client.registry.GetModel(request).versions
    if as_json:
        screen.show_json([as_plain(version) for version in versions])
        return
    for number, version in enumerate(versions):
        if number:
            screen.say("")
        screen.show_facts(version_facts(version, screen.instant))
        screen.show(flavors_sheet(version.flavors))
    # Arrays, what a run leaves, have none.
    signed = [each.flavor for version in versions for each in version.flavors if each.flavor.signature.inputs]
    for flavor in signed[:1]:
        screen.say("")
        screen.show(signature_sheet(flavor))


def pull_model(
    ctx: typer.Context,
    model: ModelArgument,
    *,
    out: Annotated[Path, typer.Option("--out", dir_okay=False, metavar="FILE", help="Where to put it.")],
    flavor: FlavorOption = "",
) -> None:
    """Fetch a flavor's file; an interrupted download goes on where it stopped."""
    invocation = invocation_of(ctx)
    with invocation.connect() as client:
        wanted = _choose_flavor(newest_version(client, model), flavor)
        with invocation.screen.transfer(wanted.flavor.name, wanted.flavor.total_bytes) as on_progress:
            digest = parse_digest(wanted.flavor.sha256)
            download(client, out, digest=digest, total_bytes=wanted.flavor.total_bytes, on_progress=on_progress)
    invocation.screen.say(f"{out}: {wanted.flavor.name}, SHA-256 {wanted.flavor.sha256}")


def compress_model(
    ctx: typer.Context,
    model: ModelArgument,
    *,
    flavor: Annotated[
        list[str] | None, typer.Option(help="Only this flavor; may be given again.", metavar="NAME")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Have the coordinator make smaller flavors of a version, each measured on held-out data."""
    invocation = invocation_of(ctx)
    screen = invocation.screen
    with invocation.connect() as client:
        request = job_pb2.StartCompressionRequest(model=model.name, version=model.version, flavors=flavor or [])
        job = client.jobs.StartCompression(request).job
        screen.note(f"job {job.id} goes on if you leave")
        job = _follow_job(client, job, screen)
        version = newest_version(client, ModelReference(name=job.model, version=job.version))
    if as_json:
        screen.show_json(as_plain(version))
        return
    screen.show(flavors_sheet(version.flavors))


def approve_version(
    ctx: typer.Context, model: ModelArgument, *, reason: ReasonOption = "", as_json: JsonFlag = False
) -> None:
    """Let a version be deployed: all flavors that it has now are signed, byte for byte."""
    invocation = invocation_of(ctx)
    _verify_names_version(model)
    request = registry_pb2.ApproveVersionRequest(model=model.name, version=model.version, reason=reason)
    with invocation.connect() as client:
        # Patches from former versions are made on the way.
        answer = client.registry.ApproveVersion(request, timeout=CHECK_DEADLINE_S)
    _show_signed(invocation.screen, answer.version, answer.waiting_for_roles, deed="approved", as_json=as_json)


def withdraw_version(
    ctx: typer.Context, model: ModelArgument, *, reason: ReasonOption = "", as_json: JsonFlag = False
) -> None:
    """Take an approval back: no device installs the version any more; where it serves, it serves on."""
    invocation = invocation_of(ctx)
    _verify_names_version(model)
    request = registry_pb2.WithdrawVersionRequest(model=model.name, version=model.version, reason=reason)
    with invocation.connect() as client:
        answer = client.registry.WithdrawVersion(request)
    _show_signed(invocation.screen, answer.version, answer.waiting_for_roles, deed="withdrawn", as_json=as_json)


def newest_version(client: Client, model: ModelReference) -> registry_pb2.ModelVersion:
    """The version that a reference means.

    Raises:
        Refused: There is none.
    """
    request = registry_pb2.GetModelRequest(model=model.name, version=model.version)
    versions = client.registry.GetModel(request).versions
    if not versions:
        raise Refused(f"the model {model.name} has no versions", hint="edgeward models list shows what there is")
    return versions[0]


def _verify_names_version(model: ModelReference) -> None:
    """The newest of a moment ago may not be the newest now, and a signature is for good."""
    if not model.version:
        raise typer.BadParameter(f"name the version, as in {model.name}:1")


def _show_signed(
    screen: Screen, version: registry_pb2.ModelVersion, waiting: Sequence[str], *, deed: str, as_json: bool
) -> None:
    if as_json:
        screen.show_json({**as_plain(version), "waiting_for_roles": list(waiting)})
        return
    screen.say(f"{version.model}:{version.version} is {deed}.")
    screen.show(flavors_sheet(version.flavors))
    if waiting:
        screen.note(waiting_in_words(waiting))


def _follow_job(client: Client, job: job_pb2.Job, screen: Screen) -> job_pb2.Job:
    activity = ""
    request = job_pb2.WatchJobRequest(job_id=job.id)
    for job in follow(lambda: client.jobs.WatchJob(request)):
        if job.activity != activity:
            activity = job.activity
            screen.note(activity)
    if job.state != "finished":
        raise Refused(f"compression {job.state}: {job.error or 'the coordinator gives no reason'}")
    return job


def _choose_flavor(version: registry_pb2.ModelVersion, name: str) -> registry_pb2.RegisteredFlavor:
    by_name = {registered.flavor.name: registered for registered in version.flavors}
    known = ", ".join(by_name)
    if name and name not in by_name:
        raise Refused(f"{version.model}:{version.version} has no flavor {name!r}", hint=f"it has {known}")
    if not name and len(by_name) != 1:
        raise ClientError(f"{version.model}:{version.version} has the flavors {known}", hint="choose one with --flavor")
    return by_name[name] if name else version.flavors[0]


def _upload_file(client: Client, file: Path, screen: Screen) -> Digest:
    digest, total_bytes = digest_of_file(file), file.stat().st_size
    with file.open("rb") as source, screen.transfer(file.name, total_bytes) as on_progress:
        upload(client, source, digest=digest, total_bytes=total_bytes, on_progress=on_progress)
    return digest
