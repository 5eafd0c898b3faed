"""`rootless auto-update`: newer images for the containers of services."""

from __future__ import annotations

from rootless.cli.table import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine

OPTIONS = (
    Option("authfile", "str", "File with the logins of registries"),
    Option("dry-run", "bool", "Only say what would be updated (pending)"),
    Option("format", "str", "Print as JSON or with a Go template", metavar="template"),
    Option("history", "bool", "Show what was tried before, and what came of it"),
    Option("rollback", "bool", "Take the image from before where an update fails", default=True),
    Option("tls-verify", "bool", "Demand a registry's certificate", default=True),
)
_COLUMNS = ("Unit", "Container", "Image", "Policy", "Updated")


def main(inv: Invocation) -> int:
    from rootless.cli.output import line, to_json
    from rootless.container.autoupdate import FAILED, Updater
    from rootless.container.engine import open_engine
    from rootless.errors import RootlessError
    from rootless.image.session import Access

    engine = open_engine(inv.globals)
    if inv.flag("history"):
        return history(engine, inv.text("format"))
    access = Access(
        authfile=inv.text("authfile"),
        tls_verify=inv.flag("tls-verify") if inv.given("tls-verify") else None,
    )
    tasks = Updater(
        engine, access, dry_run=inv.flag("dry-run"), rollback=inv.flag("rollback")
    ).run()
    rows = [task.to_json() for task in tasks]
    form = inv.text("format")
    if form == "json":
        line(to_json(rows))
    elif form:
        from rootless.cli.template import Template
        from rootless.cli.template_values import Struct

        template = Template("auto-update", form)
        for row in rows:
            line(template.render(Struct(dict(row), "entities.AutoUpdateReport")))
    elif rows:
        titles = {key: key.upper() for key in _COLUMNS}
        widths = {key: max(len(one[key]) for one in [titles, *rows]) for key in _COLUMNS}
        for one in [titles, *rows]:
            line("  ".join(one[key].ljust(widths[key]) for key in _COLUMNS).rstrip())
    problems = [task.problem for task in tasks if task.problem]
    if problems:
        for problem in problems[:-1]:
            from rootless.cli.registry_options import say

            say(f"Error: {problem}")
        if any(task.updated == FAILED for task in tasks) or problems:
            raise RootlessError(problems[-1])
    return 0


def history(engine: Engine, form: str) -> int:
    import time

    from rootless.cli.output import line, to_json
    from rootless.container.autoupdate import read_history

    found = read_history(engine)
    if form == "json":
        line(to_json(found))
        return 0
    for name, entries in sorted(found.items()):
        line(name)
        for one in entries:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["time"]))
            result = "updated" if one["result"] == "true" else one["result"]
            line(f"  {when}  {one['digest']}  {result}  ({one['unit']})")
    return 0


COMMAND = Command(
    "[options]",
    main,
    OPTIONS,
    args=(0, 0),
    description=(
        "Looks for newer images of the running containers with the label io.containers.autoupdate (registry or local), pulls them "
        "and restarts the containers' systemd units. A unit that fails, or whose container becomes unhealthy, gets its image from "
        "before, and the image that failed is not tried again. rootless-auto-update.timer does this every day."
    ),
    examples=("auto-update --dry-run", "auto-update", "auto-update --history"),
)
