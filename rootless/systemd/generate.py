"""Units for containers that exist, `generate systemd`: what is started is `rootless start`, or with --new `rootless run`.

Pure: facts in, text out. Both kinds are Type=notify with the monitor as main process, so that systemd sees its end; the
monitor's exit status is the container's.
"""

from __future__ import annotations

from rootless.errors import RootlessError, Usage
from rootless.systemd.units import (
    check_unit_name,
    check_value,
    command_line,
    fill,
    quote,
    template,
    variable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESTARTS = ("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always")
_CIDFILE = "--cidfile=%t/%n.ctr-id"
_DEPENDENCIES = ("network-online.target",)
#: What ends a container gets this long beyond the container's own time, for the removal.
_STOP_GRACE_S = 60


class Wishes:
    """The command's options."""

    __slots__ = (
        "after", "wants", "requires", "container_prefix", "separator", "env", "by_name", "new", "restart_policy",
        "restart_sec", "start_timeout", "stop_timeout", "template",
    )  # fmt: skip

    def __init__(self) -> None:
        self.after: list[str] = []
        self.wants: list[str] = []
        self.requires: list[str] = []
        self.container_prefix = "container"
        self.separator = "-"
        self.env: list[str] = []
        self.by_name = False
        self.new = False
        self.restart_policy = ""
        self.restart_sec: int | None = None
        self.start_timeout: int | None = None
        self.stop_timeout: int | None = None
        self.template = False


class Facts:
    """What is known of the container."""

    __slots__ = (
        "id", "name", "stop_timeout", "restart", "sdnotify", "program", "globals", "options", "rest", "environment",
        "folder", "data", "own_name",
    )  # fmt: skip

    def __init__(self, identity: str, name: str, program: str, data: str) -> None:
        self.id = identity
        self.name = name
        self.program = program
        self.data = data
        self.stop_timeout = 10
        self.restart = ""
        self.sdnotify = ""
        self.own_name = ""  # --name, where it was given
        self.globals: list[str] = []  # words before the command
        #: --new: the words of each option that is kept, and the image with its command.
        self.options: list[Sequence[str]] = []
        self.rest: list[str] = []
        self.environment: list[
            tuple[str, str]
        ] = []  # values that were taken from the caller's environment
        self.folder = ""  # where relative paths were meant, if there are any


def unit_name(facts: Facts, wishes: Wishes) -> str:
    """The name of a container's unit, without suffix."""
    base = facts.name if wishes.by_name else facts.id
    prefix = wishes.container_prefix
    name = f"{prefix}{wishes.separator}{base}" if prefix else base
    return check_unit_name(name + ("@" if wishes.template else ""))


def restart_of(facts: Facts, wishes: Wishes) -> str:
    """--restart-policy, else the container's own policy in systemd's words."""
    policy = wishes.restart_policy
    if policy:
        if policy not in RESTARTS:
            raise Usage(f"{policy} is not a valid restart policy")
        return policy
    return {"always": "always", "unless-stopped": "always"}.get(facts.restart, "on-failure")


def make_unit(facts: Facts, wishes: Wishes) -> str:
    """The unit's text, without a header."""
    if wishes.template and not (wishes.new and wishes.by_name):
        raise Usage("--template requires --new and --name")
    name = unit_name(facts, wishes)
    stop_s = facts.stop_timeout if wishes.stop_timeout is None else wishes.stop_timeout
    base = [facts.program, *facts.globals]
    if wishes.new:
        start = command_line(_run(facts, wishes, base), raw=(_CIDFILE, _instance(facts)))
        stop = command_line(
            [*base, "stop", "--ignore", "-t", str(stop_s), _CIDFILE], raw=(_CIDFILE,)
        )
        after = command_line(
            [*base, "rm", "-f", "--ignore", "-t", str(stop_s), _CIDFILE], raw=(_CIDFILE,)
        )
    else:
        target = facts.name if wishes.by_name else facts.id
        start = command_line([*base, "start", target])
        stop = after = command_line([*base, "stop", "--ignore", "-t", str(stop_s), target])
    environment = [variable(key, value) for key, value in facts.environment]
    for word in wishes.env:
        key, equals, value = word.partition("=")
        if not equals or not key or not (key[0].isalpha() or key[0] == "_"):
            raise Usage(f"--env {word}: must be NAME=VALUE")
        environment.append(variable(key, value))
    if not wishes.new:
        # Its program may not speak to systemd, and was not asked when it was made.
        environment.append(variable("ROOTLESS_SDNOTIFY", facts.sdnotify or "conmon"))
    values = {
        "UNIT": f"{name}.service",
        "DEPENDENCIES": _dependencies(wishes),
        "DATA": quote(facts.data, command=False),
        "ENVIRONMENT": "\n".join(f"Environment={one}" for one in environment),
        "WORKING": f"WorkingDirectory={facts.folder.replace('%', '%%')}" if facts.folder else "",
        "RESTART": restart_of(facts, wishes),
        "RESTART_SEC": "" if wishes.restart_sec is None else f"RestartSec={wishes.restart_sec}",
        "START_TIMEOUT": ""
        if wishes.start_timeout is None
        else f"TimeoutStartSec={wishes.start_timeout}",
        "STOP_SEC": str(stop_s + _STOP_GRACE_S),
        "DELEGATE": "Delegate=yes" if wishes.new else "",
        # One that a crash has left behind would stop the next start.
        "START_PRE": "ExecStartPre=/bin/rm -f %t/%n.ctr-id" if wishes.new else "",
        "START": f"ExecStart={start}",
        "STOP": f"ExecStop={stop}",
        "STOP_POST": f"ExecStopPost={after}",
    }
    check_value("WorkingDirectory", values["WORKING"])
    return fill(template("container.service.in"), values)


def _instance(facts: Facts) -> str:
    """A template's container has its instance's name."""
    return f"--name={facts.own_name or facts.name}-%i"


def _run(facts: Facts, wishes: Wishes, base: Sequence[str]) -> list[str]:
    words = [
        *base,
        "run",
        _CIDFILE,
        "--cgroups=split",
        "--rm",
        f"--sdnotify={facts.sdnotify or 'conmon'}",
        "-d",
    ]
    if wishes.template:
        words += ["--replace", _instance(facts)]
    elif facts.own_name:
        words += ["--replace", f"--name={facts.own_name}"]
    for option in facts.options:
        words += option
    words += facts.rest
    return words


def _dependencies(wishes: Wishes) -> str:
    for names in (wishes.wants, wishes.after, wishes.requires):
        for name in names:
            for one in name.split(" "):
                check_unit_name(one.replace("%", "_"))
    lines = [f"Wants={' '.join(_all(_DEPENDENCIES, wishes.wants))}"]
    if wishes.requires:
        lines.append(f"Requires={' '.join(wishes.requires)}")
    lines.append(f"After={' '.join(_all(_DEPENDENCIES, wishes.after))}")
    return "\n".join(lines)


def _all(first: Iterable[str], second: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def header(name: str, version: str, when: str) -> str:
    return f"# {name}.service\n# autogenerated by rootless {version}\n# {when}\n\n"


def pod_refused() -> RootlessError:
    return RootlessError(
        "--pod-prefix: pods are not available in this version", hint="use --container-prefix"
    )
