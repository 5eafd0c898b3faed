"""`rootless generate systemd`: a unit for a container that exists."""

from __future__ import annotations

import os

from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.systemd.generate import Facts, Wishes

OPTIONS = (
    Option("after", "list", "Add After= with these units"),
    Option("container-prefix", "str", "Begin the unit's name with this", default="container"),
    Option("env", "list", "Set variables in the unit: NAME=VALUE", short="e"),
    Option("files", "bool", "Write FILES into this folder, and print their paths", short="f"),
    Option("format", "str", "Print as JSON", choices=("json",)),
    Option("name", "bool", "Use the container's name in place of its id", short="n"),
    Option("new", "bool", "Make the container anew at each start, and remove it at each stop"),
    Option("no-header", "bool", "No comment at the top, so that equal containers give equal files"),
    Option("pod-prefix", "str", "Begin the names of pods' units with this", default="pod"),
    Option("requires", "list", "Add Requires= with these units"),
    Option("restart-policy", "str", "systemd's policy; the container's own, or on-failure"),
    Option("restart-sec", "uint", "Seconds before a restart"),
    Option("separator", "str", "What stands between prefix and name", default="-"),
    Option("start-timeout", "uint", "Seconds for the start"),
    Option("stop-timeout", "uint", "Seconds until the container is killed; its own time"),
    Option("template", "bool", "Make a template unit, whose instances are containers NAME-INSTANCE"),
    Option("wants", "list", "Add Wants= with these units"),
)  # fmt: skip

#: What the unit says itself, or what makes no sense in it.
_OURS = frozenset(
    (
        "attach", "cgroups", "cidfile", "conmon-pidfile", "detach", "detach-keys", "name", "pidfile", "replace", "restart",
        "rm", "rmi", "sdnotify", "sig-proxy",
    )
)  # fmt: skip
#: Options whose value may be a path that was meant from the folder where the command was given.
_PATHS = ("env-file", "label-file", "authfile", "cidfile", "rootfs", "hosts-file")


def main(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.systemd.generate import make_unit, unit_name

    wishes = _wishes(inv)
    engine = open_engine(inv.globals)
    record = engine.containers.read(engine.containers.lookup(inv.args[0]))
    facts = _facts(engine.paths.data, record, inv, wishes)
    name = unit_name(facts, wishes)
    text = make_unit(facts, wishes)
    if not inv.flag("no-header"):
        text = _header(name) + text
    if inv.flag("files"):
        text = _write(f"{os.getcwd()}/{name}.service", text)
    if inv.text("format") == "json":
        output.line(output.to_json({name: text}))
    else:
        output.line(text.rstrip("\n"))
    return 0


def _header(name: str) -> str:
    import time

    from rootless import __version__
    from rootless.systemd.generate import header

    return header(name, __version__, time.strftime("%a %b %e %H:%M:%S %Z %Y"))


def _write(path: str, text: str) -> str:
    from rootless.files import write_atomic

    # The values of variables may be secrets (security case 48); a user's manager reads its user's files.
    lines = [line for line in text.splitlines() if line.startswith("Environment=")]
    holds_values = "--env=" in text or any("PODMAN_SYSTEMD_UNIT=" not in line for line in lines)
    mode = 0o600 if holds_values else 0o644
    write_atomic(path, text.encode("utf-8", "surrogateescape"), mode)
    return path


def _wishes(inv: Invocation) -> Wishes:
    from rootless.systemd.generate import Wishes

    wishes = Wishes()
    for name in ("after", "wants", "requires", "env"):
        setattr(wishes, name, inv.words(name))
    wishes.container_prefix = inv.text("container-prefix")
    wishes.separator = inv.text("separator")
    wishes.by_name = inv.flag("name")
    wishes.new = inv.flag("new")
    wishes.template = inv.flag("template")
    wishes.restart_policy = inv.text("restart-policy")
    for name in ("restart-sec", "start-timeout", "stop-timeout"):
        if inv.given(name):
            setattr(wishes, name.replace("-", "_"), inv.number(name))
    return wishes


def _facts(data: str, record: dict[str, Any], inv: Invocation, wishes: Wishes) -> Facts:
    from rootless.systemd.generate import Facts
    from rootless.systemd.units import program

    options = record["options"]
    facts = Facts(record["id"], record["name"], program(), data)
    facts.stop_timeout = max(int(record["stop_timeout"]), 0)
    facts.restart = options.get("restart", "no")
    made_by: list[str] = options.get("create_command") or []
    if not wishes.new:
        import sys

        facts.globals = _words_of(read_words(sys.argv[1:])[1])
        return facts
    if not made_by:
        raise RootlessError(
            f"container {facts.name}: the command that made it is not known, which --new needs",
            hint="leave --new out, or make the container with `rootless create`",
        )
    path, before, given, args = read_words(made_by[1:])
    if path.rpartition(" ")[2] not in ("run", "create"):
        raise RootlessError(f"container {facts.name}: cannot make a unit of `rootless {path}`")
    facts.globals = _words_of((path, before, given, args)[1])
    facts.rest = list(args)
    for name, value in given:
        if name == "name":
            facts.own_name = value.removeprefix("/")
        elif name == "sdnotify" and value != "ignore":
            facts.sdnotify = value
        elif name in _OURS:
            continue
        elif name == "env" and "=" not in value:
            _take_variables(facts, value, options.get("env") or {})
            facts.options.append(_word(name, value))
        else:
            if _is_relative(name, value):
                facts.folder = options.get("create_folder") or os.getcwd()
            facts.options.append(_word(name, value))
    if options.get("rootfs") and args and not args[0].startswith("/"):
        facts.rest[0] = options["image"]
    return facts


def _take_variables(facts: Facts, word: str, kept: dict[str, str]) -> None:
    """`-e NAME` took the caller's value, which the unit has to know: it goes into its environment."""
    for name, value in kept.items():
        if name == word or (word.endswith("*") and name.startswith(word[:-1])):
            facts.environment.append((name, value))


def _is_relative(name: str, value: str) -> bool:
    if name in _PATHS:
        return not value.startswith("/")
    if name == "volume":
        return value.startswith((".", "~"))
    return name == "mount" and any(
        part.partition("=")[2].startswith(".") for part in value.split(",") if part.startswith("s")
    )


def _word(name: str, value: str) -> tuple[str]:
    return (f"--{name}" if value == "true" else f"--{name}={value}",)


def _words_of(given: Sequence[tuple[str, str]]) -> list[str]:
    return [_word(name, value)[0] for name, value in given]


def read_words(
    words: list[str],
) -> tuple[str, list[tuple[str, str]], list[tuple[str, str]], list[str]]:
    """(command, global options, its options, its arguments) of a command line, every option by its long name."""
    from rootless.cli.parse import Flags, find, read
    from rootless.cli.table import load

    seen: list[tuple[str, str]] = []

    class Recorder(Flags):
        __slots__ = ()

        def set(self, slot: Any, text: str) -> None:
            super().set(slot, text)
            seen.append((slot[0].name, text))

    flags = Recorder("")
    path, at = find(words, flags)
    before = list(seen)
    invocation = read(path, load(path), words, at, flags)
    return path, before, seen[len(before) :], list(invocation.args)


def check(inv: Invocation) -> None:
    if len(inv.args) != 1:
        raise Usage(f"accepts 1 arg(s), received {len(inv.args)}")
    if inv.given("pod-prefix"):
        from rootless.systemd.generate import pod_refused

        raise pod_refused()


COMMAND = Command(
    "[options] CONTAINER",
    main,
    OPTIONS,
    args=check,
    description=(
        "Prints a systemd unit that starts and stops a container. With --new the unit makes the container from the options "
        "that it was made with, and removes it at the end."
    ),
    examples=(
        "generate systemd --new --files --name web",
        "generate systemd --restart-policy always web",
    ),
    complete="containers",
)
