"""`rootless events`: what has happened to containers, images, volumes and networks."""

from __future__ import annotations

from rootless.cli.options import filter_option
from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.cli.table import Invocation

    Event = dict[str, Any]

OPTIONS = (
    filter_option("Only events that fit, as in event=create"),
    Option("format", "str", "Print as JSON or with a Go template", metavar="template"),
    Option("no-trunc", "bool", "Print ids in full", default=True),
    Option(
        "since", "str", "Only events since a time, as in 10m or 2026-01-31T12:00:00", metavar="time"
    ),
    Option("stream", "bool", "Go on with new events", default=True),
    Option("until", "str", "Only events until a time", metavar="time"),
)

# What has an id of its own beside the name.
_WITH_ID = ("container", "pod", "image")


def main(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.event_log import border, matcher, read

    engine = open_engine(inv.globals)
    if engine.config.text("engine", "events_logger") == "none":
        raise RootlessError('cannot read events with the "none" backend')
    shown = _printer(inv.text("format"), full=inv.flag("no-trunc"))
    since, until = inv.text("since"), inv.text("until")
    stream = inv.flag("stream")
    fits = matcher(inv.words("filter"))
    found = read(
        engine.paths.events,
        fits,
        since_ns=border(since, "since") if since else 0,
        until_ns=border(until, "until") if until else 0,
        from_start=bool(since or until) or not stream,
        follow=stream,
    )
    for event in found:
        output.line(shown(event))
    return 0


def _printer(form: str, *, full: bool) -> Callable[[Event], str]:
    if form == "json":
        from rootless.cli.output import to_json

        return lambda event: to_json(_json(event), 0)
    if form:
        from rootless.cli.template import Template

        template = Template("events", form)
        return lambda event: template.render(_data(event))
    return lambda event: human(event, full=full)


def human(event: Event, *, full: bool = True) -> str:
    """One line, as Podman writes it for people."""
    from rootless.cli.gotime import Time
    from rootless.cli.output import short_id

    kind = event.get("Type", "")
    words = [str(Time(event["Time"])), kind, event.get("Status", "")]
    identity = str(event.get("ID", ""))
    identity = identity if full else short_id(identity)
    name = str(event.get("Name", ""))
    if kind in ("container", "pod"):
        facts = [f"image={event.get('Image', '')}", f"name={name}"]
        for key, word in (("PodID", "pod_id"), ("HealthStatus", "health_status")):
            if event.get(key):
                facts.append(f"{word}={event[key]}")
        facts += [
            f"{key}={value}" for key, value in sorted((event.get("Attributes") or {}).items())
        ]
        words += [identity, f"({', '.join(facts)})"]
    elif kind == "network":
        words += [identity, f"(container={event.get('Image', '')}, name={name})"]
    elif kind == "image":
        words += [identity, name]
    elif name:
        words.append(name)
    return " ".join(words)


def _json(event: Event) -> Event:
    document: Event = {}
    if event.get("ContainerExitCode") is not None:
        document["ContainerExitCode"] = event["ContainerExitCode"]
    for key in ("ID", "Image", "Name", "Network", "PodID", "HealthStatus", "Error"):
        if event.get(key):
            document[key] = event[key]
    document["Status"] = event.get("Status", "")
    document["time"] = event["TimeNano"] // 1_000_000_000
    document["timeNano"] = event["TimeNano"]
    document["Type"] = event.get("Type", "")
    document["Attributes"] = event.get("Attributes") or (
        {} if event.get("Type") in _WITH_ID[:2] else None
    )
    return document


def _data(event: Event) -> Any:
    from rootless.cli.template_values import Struct

    return Struct(
        {
            "ContainerExitCode": event.get("ContainerExitCode"),
            "ID": event.get("ID", ""),
            "Image": event.get("Image", ""),
            "Name": event.get("Name", ""),
            "Network": event.get("Network", ""),
            "Status": event.get("Status", ""),
            "Time": event["TimeNano"] // 1_000_000_000,
            "TimeNano": event["TimeNano"],
            "Type": event.get("Type", ""),
            "HealthStatus": event.get("HealthStatus", ""),
            "Error": event.get("Error", ""),
            "PodID": event.get("PodID", ""),
            "Attributes": event.get("Attributes") or {},
            "ContainerInspectData": "",
        },
        "system.Event",
    )


def check(inv: Invocation) -> None:
    if inv.args:
        raise Usage("`rootless events` takes no arguments")


COMMAND = Command(
    "[options]",
    main,
    OPTIONS,
    args=check,
    description="Shows what happens, and what has happened, to containers, images, volumes and networks.",
    examples=(
        "events --since 10m --stream=false",
        "events --filter event=died --format '{{.Name}}'",
    ),
)
