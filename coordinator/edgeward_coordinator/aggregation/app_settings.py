"""What an app's pyproject.toml says, and its settings with a run's overrides. Pure, and without Flower.

Flower's own rule for settings (`flwr.common.config`): nested tables of
`[tool.flwr.app.config]` are flattened with dots, and an override must name a
setting that exists.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward_coordinator.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.protocol.state import ConfigValue

ROUNDS_KEY = "num-server-rounds"

_MAX_NAME = 128
_MAX_ROUNDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """What a run needs to know of an app before it runs it."""

    name: str
    serverapp: str
    clientapp: str
    config: Mapping[str, ConfigValue]
    model: str
    """The model that runs of this app make a version of: `[tool.edgeward.model]`'s name, else the app's."""


def parse_app_settings(pyproject: str) -> AppSettings:
    """Read an app's pyproject.toml.

    Raises:
        InvalidArgument: Not TOML, or not a Flower app's.
    """
    try:
        document = tomllib.loads(pyproject)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"the app's pyproject.toml can't be read: {error}") from error
    components = _table(document, "tool.flwr.app.components")
    name = _text(_table(document, "project"), "name", "project")
    if len(name) > _MAX_NAME:
        raise InvalidArgument(f"the app's name has {len(name)} characters; at most {_MAX_NAME} are taken")
    return AppSettings(
        name=name,
        serverapp=_text(components, "serverapp", "tool.flwr.app.components"),
        clientapp=_text(components, "clientapp", "tool.flwr.app.components"),
        config=_flatten(_table(document, "tool.flwr.app.config")),
        model=str(_table(document, "tool.edgeward.model").get("name") or name),
    )


def fuse_config(
    config: Mapping[str, ConfigValue], overrides: Mapping[str, str], *, rounds: int = 0
) -> dict[str, ConfigValue]:
    """The settings of one run.

    Args:
        config: The app's own.
        overrides: TOML text by setting: `0.1`, `true`, `"text"`.
        rounds: For the setting `num-server-rounds`; 0 leaves it as it is.

    Raises:
        InvalidArgument: An override names no setting of the app, or its text is no TOML value.

    >>> fuse_config({"lr": 0.1, "num-server-rounds": 3}, {"lr": "0.5"}, rounds=5)
    {'lr': 0.5, 'num-server-rounds': 5}
    """
    fused = dict(config)
    for key, text in overrides.items():
        _verify_known(key, config)
        fused[key] = _parse_value(key, text)
    if rounds:
        _verify_known(ROUNDS_KEY, config)
        fused[ROUNDS_KEY] = rounds
    return fused


def rounds_in(config: Mapping[str, ConfigValue]) -> int:
    """How many rounds the settings ask for; 0 where they don't say."""
    rounds = config.get(ROUNDS_KEY)
    if not isinstance(rounds, int) or isinstance(rounds, bool):
        return 0
    return rounds if 0 < rounds <= _MAX_ROUNDS else 0


def _verify_known(key: str, config: Mapping[str, ConfigValue]) -> None:
    if key not in config:
        known = ", ".join(sorted(config)) or "none"
        raise InvalidArgument(
            f"the app has no setting {key!r}; its settings are: {known}",
            hint="settings stand in [tool.flwr.app.config] of the app's pyproject.toml",
        )


def _parse_value(key: str, text: str) -> ConfigValue:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        document = {}
    value = document.get("value")
    if len(document) != 1 or not isinstance(value, str | int | float):
        raise InvalidArgument(f"{text!r} is no value for the setting {key!r}", hint='write 3, 0.1, true or "text"')
    return value


def _table(document: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    table: Any = document
    for part in path.split("."):
        table = table.get(part, {})
        if not isinstance(table, dict):
            raise InvalidArgument(f"[{path}] in the app's pyproject.toml is no table")
    return table  # type: ignore[no-any-return]


def _text(table: Mapping[str, Any], key: str, path: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidArgument(
            f"the app's pyproject.toml has no {key} in [{path}], so it is no Flower app",
            hint="an app names its ServerApp and ClientApp in [tool.flwr.app.components]",
        )
    return value


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, ConfigValue]:
    flat: dict[str, ConfigValue] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float):
            flat[prefix + key] = value
        else:
            raise InvalidArgument(f"the setting {prefix + key!r} is neither text, number nor boolean: {value!r}")
    return flat
