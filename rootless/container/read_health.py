"""Health checks as `create`, `run` and `update` take them; durations in nanoseconds."""

from __future__ import annotations

import os

from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.options import CreateOptions
    from rootless.container.read_options import Reader

_HEALTH_NS = 30 * 10**9
_HEALTH_RETRIES = 3


def read(reader: Reader, o: CreateOptions) -> None:
    """`--health-*` and `--no-healthcheck`."""
    text, flags = reader.text, reader.flags
    command = text("health_cmd")
    if flags.get("no_healthcheck"):
        if command:
            raise Usage("cannot specify both --no-healthcheck and --health-cmd")
        o.health = {"Test": ["NONE"]}
    elif command:
        o.health = _health_test(command)
        o.health.update(
            Interval=_HEALTH_NS, Retries=_HEALTH_RETRIES, Timeout=_HEALTH_NS, StartPeriod=0
        )
    if not flags.get("no_healthcheck"):
        _times(reader, o)
    startup = text("health_startup_cmd")
    if startup:
        if flags.get("no_healthcheck"):
            raise Usage("cannot specify both --no-healthcheck and --health-startup-cmd")
        o.health_startup = _health_test(startup)
        o.health_startup["Interval"] = _interval(
            reader, "health_startup_interval", "startup healthcheck interval"
        )
        o.health_startup["Timeout"] = _duration(
            reader, "health_startup_timeout", "startup healthcheck timeout", "30s"
        )
        o.health_startup["Retries"] = flags.get("health_startup_retries") or 0
        o.health_startup["Successes"] = flags.get("health_startup_success") or 0
    if o.health_on_failure not in ("none", "kill", "restart", "stop"):
        raise Usage(
            f'invalid on-failure action "{o.health_on_failure}" for health check: '
            "supported actions are none,kill,restart,stop"
        )
    if o.health_on_failure != "none" and o.health is not None and o.health.get("Test") == ["NONE"]:
        raise Usage(f"cannot set on-failure action to {o.health_on_failure} without a health check")
    if o.health_log_destination not in ("", "local", "events_logger"):
        place = o.health_log_destination
        if not os.path.isabs(place) or not os.path.isdir(place):
            raise Usage(
                f"HealthCheck Log '{place}' destination error: must be an existing folder, local or events_logger"
            )


def _times(reader: Reader, o: CreateOptions) -> None:
    """Times given without a command are for the image's HEALTHCHECK."""
    flags = reader.flags
    given: dict[str, int] = {}
    if flags.get("health_interval"):
        given["Interval"] = _interval(reader, "health_interval", "healthcheck-interval")
    if flags.get("health_retries") is not None:
        given["Retries"] = flags["health_retries"]
        if given["Retries"] < 1:
            raise Usage("healthcheck-retries must be greater than 0")
    if flags.get("health_timeout"):
        given["Timeout"] = _duration(reader, "health_timeout", "healthcheck-timeout", "30s")
        if given["Timeout"] < 10**9:
            raise Usage("healthcheck-timeout must be at least 1 second")
    if flags.get("health_start_period"):
        given["StartPeriod"] = _duration(
            reader, "health_start_period", "healthcheck-start-period", "0s"
        )
        if given["StartPeriod"] < 0:
            raise Usage("healthcheck-start-period must be 0 seconds or greater")
    if given:
        o.health = {**(o.health or {}), **given}


def _duration(reader: Reader, name: str, said: str, default: str) -> int:
    value = reader.flags.get(name)
    if isinstance(value, int):
        return value
    from rootless import durations

    try:
        return durations.parse(value or default)
    except ValueError as error:
        raise Usage(f"invalid {said}: {error}") from None


def _interval(reader: Reader, name: str, said: str) -> int:
    if reader.text(name) == "disable":
        return 0
    return _duration(reader, name, said, "30s")


def _health_test(command: str) -> dict[str, Any]:
    """`--health-cmd`: CMD and CMD-SHELL as in a Containerfile, a JSON list, `none`, else a shell's line."""
    words: list[str]
    if command.startswith("["):
        import json

        try:
            parsed = json.loads(command)
        except ValueError:
            parsed = None
        if isinstance(parsed, list) and parsed and all(isinstance(word, str) for word in parsed):
            words = parsed if parsed[0] in ("CMD", "CMD-SHELL", "NONE") else ["CMD", *parsed]
        else:
            words = ["CMD-SHELL", command]
    elif command.strip().lower() == "none":
        words = ["NONE"]
    else:
        first, _, rest = command.strip().partition(" ")
        if first == "CMD" and rest:
            words = ["CMD", *rest.split()]
        elif first == "CMD-SHELL" and rest:
            words = ["CMD-SHELL", rest]
        else:
            words = ["CMD-SHELL", command]
    return {"Test": words}
