"""`rootless history`: the steps that made an image."""

from __future__ import annotations

from rootless.cli.table import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.image.store import Image, ImageStore

OPTIONS = (
    Option("format", "str", "Print as JSON or with a Go template", metavar="template"),
    Option("human", "bool", "Sizes and dates for people", short="H", default=True),
    Option("no-trunc", "bool", "Print everything in full"),
    Option("quiet", "bool", "Print the ids only", short="q"),
)
_MISSING = "<missing>"
_HEADINGS = {
    "ID": "ID",
    "Created": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
    "Tags": "TAGS",
}


def steps(store: ImageStore, image: Image) -> list[dict[str, Any]]:
    """The image's history, the last step first, each with the image that it made where that is here."""
    images = store.list()
    chains = list(image.layers)
    found: list[dict[str, Any]] = []
    history = image.history or [{} for _ in chains]
    used = sum(1 for entry in history if not entry.get("empty_layer"))
    for number in range(len(history) - 1, -1, -1):
        entry = history[number]
        size = 0
        owner = None
        if number == len(history) - 1:
            owner = image
        else:
            prefix = history[: number + 1]
            owner = next(
                (one for one in images if one.history == prefix and one.layers == chains[:used]),
                None,
            )
        if not entry.get("empty_layer") and 0 < used <= len(chains):
            size = store.layers.record(chains[used - 1])["size"]
            used -= 1
        found.append(
            {
                "id": owner.id if owner is not None else _MISSING,
                "created": entry.get("created") or "",
                "CreatedBy": entry.get("created_by") or "",
                "tags": owner.names if owner is not None else [],
                "size": size,
                "comment": entry.get("comment") or "",
            }
        )
    return found


def main(inv: Invocation) -> int:
    import time

    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.oci.image import parse_time, rfc3339

    store = open_engine(inv.globals).images
    found = steps(store, store.lookup(inv.args[0]))
    form, full, human = inv.text("format"), inv.flag("no-trunc"), inv.flag("human")
    if form == "json":
        listed = []
        for step in found:
            kept = {key: value for key, value in step.items() if value or key in ("id", "size")}
            kept["Created"] = rfc3339(int(parse_time(step["created"])))
            listed.append(kept)
        output.line(output.to_json(listed, 0))
        return 0
    if inv.flag("quiet"):
        for step in found:
            output.line(step["id"] if full else step["id"][:12])
        return 0
    now = time.time()
    rows = []
    for step in found:
        moment = parse_time(step["created"])
        created_by = step["CreatedBy"]
        if not full and len(created_by) > 45:
            created_by = created_by[:42] + "..."
        since = f"{output.human_duration(max(0.0, now - moment))} ago"
        rows.append(
            {
                "ID": step["id"] if full or step["id"] == _MISSING else step["id"][:12],
                "Created": since if human else rfc3339(int(moment)),
                "CreatedAt": rfc3339(int(moment)),
                "CreatedSince": since,
                "CreatedBy": " ".join(created_by.split("\n")).replace("\t", " "),
                "Size": output.human_size(step["size"], 3) if human else str(step["size"]),
                "Comment": step["comment"],
                "Tags": step["tags"],
            }
        )
    if form:
        from rootless.cli.listing import render
        from rootless.cli.template import Struct

        items = [Struct(row, "images.historyReporter") for row in rows]
        output.write(render("history", items, form, _HEADINGS))
        return 0
    columns = ("ID", "Created", "CreatedBy", "Size", "Comment")
    output.write(
        output.table(
            [
                [_HEADINGS[name] for name in columns],
                *([row[name] for name in columns] for row in rows),
            ]
        )
    )
    return 0


COMMAND = Command(
    "[options] IMAGE",
    main,
    OPTIONS,
    args=(1, 1),
    description="Shows the steps that made an image, the last one first.",
    examples=("history debian", "history --no-trunc --format '{{.CreatedBy}}' debian"),
    complete="images",
)
