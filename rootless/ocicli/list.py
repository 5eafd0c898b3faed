"""list: every container below --root."""

from __future__ import annotations

import os

from rootless import quickjson as json
from rootless.errors import NotFound, Usage
from rootless.files import write_all
from rootless.ocicli import records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.ocicli.commandline import Given

_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def run(settings: Given, given: Given) -> int:
    """The command."""
    shape = given.text("format") or "table"
    if shape not in ("table", "json"):
        raise Usage(f"invalid format option: {shape}")
    root = records.find_root(settings)
    if settings.text("root") and not os.path.isdir(root):
        os.stat(root)
    states: list[dict[str, Any]] = []
    for identity in records.identities(root):
        try:
            record = records.Record(root, identity).load()
            if record.data.get("runner") and not record.is_alive():
                from rootless.ocicli.leftovers import take_away

                if take_away(record):
                    continue
            states.append(record.state())
        except NotFound:
            continue  # being made, or just removed
    if given.switch("quiet"):
        text = "".join(f"{state['id']}\n" for state in states)
    elif shape == "json":
        text = json.dumps(states, separators=(",", ":")) + "\n"
    else:
        text = table([_COLUMNS, *([str(state[key]) for key in _COLUMNS] for state in states)])
    write_all(1, text.encode("utf-8", "surrogateescape"))
    return 0


def table(rows: list[Any]) -> str:
    """Rows below their headings, in columns as wide as runc makes them."""
    rows = [[str(cell) for cell in row] for row in rows]
    rows[0] = [cell.upper() for cell in rows[0]]
    widths = [max(12, *(len(row[at]) + 3 for row in rows)) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        line = "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(line.rstrip() + "\n")
    return "".join(lines)
