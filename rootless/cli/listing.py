"""Lists as Podman prints them for --format: lines by a template, or a table with headings (containers/common's report)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def is_table(form: str) -> bool:
    return form.startswith("table ")


def is_json(form: str) -> bool:
    """The word for JSON; `{{json .}}` is a template like any other."""
    return form.strip() == "json"


def render(
    command: str,
    items: Sequence[Mapping[str, Any]],
    form: str,
    headings: Mapping[str, str],
    *,
    noheading: bool = False,
    go_type: str = "",
) -> str:
    """Format items by a template for one of them; with `table` before it, in columns under headings."""
    from rootless.cli import output
    from rootless.cli.template import Struct, parse_user

    rows = [
        item if isinstance(item, Struct) else Struct(item, go_type or f"{command}.reporter")
        for item in items
    ]
    table = is_table(form)
    if table:
        # Podman takes every blank for the end of a column.
        form = form.replace("table ", "").replace("\\t", "\t").replace(" ", "\t")
    around = ("", "") if form.startswith("{{range") else ("{{range .}}", "{{end -}}")
    template = parse_user(command, form, around)
    text = template.render(rows)
    if not table:
        return text
    if not noheading:
        text = template.render([dict(headings)]) + text
    return output.columns(text)
