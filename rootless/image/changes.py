"""`--change`: Containerfile instructions that edit an image's config, for commit and import."""

from __future__ import annotations

import shlex

from rootless import quickjson as json
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Config = dict[str, Any]


def apply(config: Config, changes: list[str], *, docker: bool = False) -> None:
    """Apply instructions to the `config` part of an image's config, in their order.

    `docker` allows what only docker's images know: HEALTHCHECK and SHELL.
    """
    done: set[str] = set()
    for change in changes:
        name, value = _apply_one(config, change, docker)
        done.add(name)
        if name == "ENTRYPOINT" and value and "CMD" not in done:
            # The former command was for the former entrypoint.
            config.pop("Cmd", None)


def _apply_one(config: Config, change: str, docker: bool) -> tuple[str, str]:
    """Return the instruction and its value."""
    # The Containerfile's form, or KEY=VALUE as docker's API has it.
    word, separator, value = change.strip().partition(" ")
    if not separator or "=" in word:
        word, separator, value = change.strip().partition("=")
    name, value = word.upper(), value.strip()
    if not separator:
        raise RootlessError(f'invalid change "{change}" - must be formatted as KEY VALUE')
    handler = _HANDLERS.get(name) or (_DOCKER_HANDLERS.get(name) if docker else None)
    if handler is None:
        raise RootlessError(f'invalid change "{change}" - invalid instruction {word}')
    try:
        handler(config, value)
    except ValueError as error:
        raise RootlessError(f'invalid change "{change}" - {error}') from error
    return name, value


def _words(value: str) -> list[str]:
    """A JSON list, or a line for the shell."""
    if value.startswith("["):
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = None
        if isinstance(parsed, list) and all(isinstance(one, str) for one in parsed):
            return parsed
    return ["/bin/sh", "-c", value]


def _cmd(config: Config, value: str) -> None:
    config["Cmd"] = _words(value)


def _entrypoint(config: Config, value: str) -> None:
    if value:
        config["Entrypoint"] = _words(value)
    else:
        config.pop("Entrypoint", None)


def set_env(config: Config, name: str, value: str) -> None:
    """Set one variable, in the place of one of that name."""
    entries: list[str] = list(config.get("Env") or [])
    new = f"{name}={value}"
    for number, entry in enumerate(entries):
        if entry.partition("=")[0] == name:
            entries[number] = new
            break
    else:
        entries.append(new)
    config["Env"] = entries


def _pairs(value: str) -> list[tuple[str, str]]:
    """`A=1 B="two words"`, or the old form `A anything`."""
    first = value.split(None, 1)[0] if value else ""
    if "=" not in first and not first.startswith(('"', "'")):
        name, separator, rest = value.partition(" ")
        if not name or not separator:
            raise ValueError("must be formatted as KEY=VALUE")
        return [(name, rest.strip())]
    found = []
    for word in shlex.split(value):
        name, equals, rest = word.partition("=")
        if not equals or not name:
            raise ValueError("must be formatted as KEY=VALUE")
        found.append((name, rest))
    return found


def _env(config: Config, value: str) -> None:
    for name, content in _pairs(value):
        set_env(config, name, content)


def _label(config: Config, value: str) -> None:
    labels = dict(config.get("Labels") or {})
    labels.update(_pairs(value))
    config["Labels"] = labels


def _expose(config: Config, value: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in value.split():
        number, _, protocol = word.partition("/")
        protocol = protocol.lower() or "tcp"
        if protocol not in ("tcp", "udp", "sctp"):
            raise ValueError(f"invalid protocol {protocol}")
        first, _, last = number.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise ValueError(f"invalid port {number}")
        low, high = int(first), int(last or first)
        if not 0 < low <= high < 65536:
            raise ValueError(f"invalid port {number}")
        for port in range(low, high + 1):
            ports[f"{port}/{protocol}"] = {}
    config["ExposedPorts"] = ports


def _volume(config: Config, value: str) -> None:
    volumes = dict(config.get("Volumes") or {})
    words = _words(value) if value.startswith("[") else value.split()
    for word in words:
        volumes[word] = {}
    config["Volumes"] = volumes


def _user(config: Config, value: str) -> None:
    if not value:
        raise ValueError("no value given to instruction USER")
    config["User"] = value


def _workdir(config: Config, value: str) -> None:
    import posixpath

    config["WorkingDir"] = posixpath.normpath(
        posixpath.join(config.get("WorkingDir") or "/", value)
    )


def _stopsignal(config: Config, value: str) -> None:
    import signal

    name = value.upper()
    if not name.isdigit() and not hasattr(signal, f"SIG{name.removeprefix('SIG')}"):
        raise ValueError(f"invalid signal {value}")
    config["StopSignal"] = value


def _onbuild(config: Config, value: str) -> None:
    config["OnBuild"] = [*(config.get("OnBuild") or []), value]


_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


def _healthcheck(config: Config, value: str) -> None:
    from rootless import durations

    check: dict[str, Any] = {}
    while value.startswith("--"):
        option, _, value = value.partition(" ")
        value = value.lstrip()
        name, _, given = option[2:].partition("=")
        if name == "retries" and given.isdigit():
            check["Retries"] = int(given)
            continue
        if name not in _TIMES:
            raise ValueError(f"invalid option {option}")
        check[_TIMES[name]] = durations.parse(given)
    word, _, command = value.partition(" ")
    if word.upper() == "NONE" and not command and not check:
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if word.upper() != "CMD" or not command.strip():
        raise ValueError("neither NONE nor CMD and a command")
    words = _words(command.strip())
    shell = words[:2] == ["/bin/sh", "-c"] and not command.strip().startswith("[")
    config["Healthcheck"] = {"Test": ["CMD-SHELL", words[2]] if shell else ["CMD", *words], **check}


def _shell(config: Config, value: str) -> None:
    words = _words(value)
    if not value.startswith("[") or (words[:2] == ["/bin/sh", "-c"] and words[2:] == [value]):
        raise ValueError("must be a JSON list")
    config["Shell"] = words


_DOCKER_HANDLERS = {"HEALTHCHECK": _healthcheck, "SHELL": _shell}
_HANDLERS = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
