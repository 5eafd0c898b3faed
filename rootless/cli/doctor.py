"""`rootless doctor`: what works on this host, what does not, and the remedy."""

from __future__ import annotations

from rootless.cli.table import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.cli.table import Invocation

OPTIONS = (
    Option("format", "str", "Print as JSON", choices=("json",)),
    Option("offline", "bool", "Do not ask whether registries can be reached"),
)


def main(inv: Invocation) -> int:
    from rootless.cli.output import line, to_json
    from rootless.container.doctor import examine, works
    from rootless.container.doctor_finding import BAD, GOOD, NOTE, Finding
    from rootless.container.engine import open_engine
    from rootless.errors import RootlessError

    found = []
    marks = {GOOD: "ok  ", NOTE: "warn", BAD: "FAIL"}
    as_json = inv.text("format") == "json"
    findings: Iterable[Finding]
    try:
        findings = examine(open_engine(inv.globals), offline=inv.flag("offline"))
    except RootlessError as error:
        findings = [Finding("settings", BAD, error.message, error.hint)]
    for one in findings:
        found.append(one)
        if not as_json:
            line(f"{marks[one.state]}  {one.subject}: {one.text}")
            if one.remedy:
                line(f"        remedy: {one.remedy}")
    good = works(found)
    if as_json:
        line(to_json({"works": good, "findings": [one.to_json() for one in found]}))
    else:
        line(
            "Containers can be run here."
            if good
            else "Containers cannot be run here: see FAIL above."
        )
    return 0 if good else 1


COMMAND = Command(
    "[options]",
    main,
    OPTIONS,
    args=(0, 0),
    description=(
        "Looks at the host and says what works for containers, what does not, and the exact remedy. The exit code is 0 only where "
        "containers can be run."
    ),
    examples=("doctor", "doctor --format json"),
)
