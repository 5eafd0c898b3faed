"""`rootless images`: list images."""

from __future__ import annotations

from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.image.store import Image, ImageStore

SORTS = ("created", "id", "repository", "size", "tag")
_NONE = "<none>"


def main(inv: Invocation) -> int:
    import time

    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.image_users import image_users

    if inv.flag("quiet") and inv.given("format"):
        raise Usage("quiet and format are mutually exclusive")
    engine = open_engine(inv.globals)
    store = engine.images
    images = _everything(store)
    words = inv.words("filter")
    if inv.args:
        words = [*words, f"reference={inv.args[0]}"]
    if words:
        from rootless.image.filters import compile_filters

        matches = compile_filters(store, words, image_users(engine), time.time())
        images = [image for image in images if matches(image)]
    if not inv.flag("all") and not any(word.startswith("intermediate") for word in words):
        images = _without_intermediates(store.list(), images)
    rows = [
        (image, repository, tag)
        for image in images
        for repository, tag in [_split(name) for name in image.names] or [(_NONE, _NONE)]
    ]
    _sort(rows, inv.text("sort"))
    full = inv.flag("no-trunc")
    if inv.flag("quiet"):
        for identity in dict.fromkeys(image.id for image, _, _ in rows):
            output.line(f"sha256:{identity}" if full else identity[:12])
        return 0
    if inv.text("format") == "json":
        users = image_users(engine)
        output.line(
            output.to_json([_json(image, len(users.get(image.id, ()))) for image, _, _ in rows])
        )
        return 0
    now = time.time()
    if not inv.given("format"):
        output.write(_table(inv, rows, now))
        return 0
    from rootless.cli.listing import render

    users = image_users(engine)
    items = [_fields(row, len(users.get(row[0].id, ())), now, full) for row in rows]
    output.write(
        render("images", items, inv.text("format"), _HEADINGS, noheading=inv.flag("noheading"))
    )
    return 0


def _without_intermediates(family: list[Image], images: list[Image]) -> list[Image]:
    """Leave out nameless images that others are built on."""
    if all(image.names for image in images):
        return images
    from rootless.image.remove import Family

    relations = Family(family)
    return [
        image for image in images if image.names or not (image.is_host or relations.children(image))
    ]


def _everything(store: ImageStore) -> list[Image]:
    """The images and the manifest lists, the newest first."""
    from rootless.image import lists

    found = store.list()
    known = [one.as_image() for one in lists.every(store)]
    if known:
        found += known
        found.sort(key=lambda image: (-image.created, image.id))
    return found


def _split(name: str) -> tuple[str, str]:
    repository, at, _ = name.partition("@")
    if at:
        return repository, _NONE
    repository, _, tag = name.rpartition(":")
    return repository, tag


def _sort(rows: list[tuple[Image, str, str]], key: str) -> None:
    if key == "id":
        rows.sort(key=lambda row: row[0].id)
    elif key == "repository":
        rows.sort(key=lambda row: row[1])
    elif key == "size":
        rows.sort(key=lambda row: row[0].size)
    elif key == "tag":
        rows.sort(key=lambda row: row[2])
    # the store lists the newest first already


def _ago(image: Image, now: float) -> str:
    from rootless.cli import output

    return f"{output.human_duration(max(0.0, now - image.created))} ago"


def size_text(size: int) -> str:
    """Podman writes "2.03 MB" here, with a blank, and "2.03MB" elsewhere."""
    from rootless.cli import output

    text = output.human_size(size, 3)
    at = len(text.rstrip("kMGTPEZYB"))
    return f"{text[:at]} {text[at:]}"


def _table(inv: Invocation, rows: list[tuple[Image, str, str]], now: float) -> str:
    from rootless.cli import output

    full = inv.flag("no-trunc")
    digests, history = inv.flag("digests"), inv.flag("history")
    headings = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    if digests:
        headings.insert(2, "DIGEST")
    if history:
        headings.append("HISTORY")
    # As in Podman: only where additional stores have brought one.
    read_only = any(image.read_only for image, _, _ in rows)
    if read_only:
        headings.append("R/O")
    table = [] if inv.flag("noheading") else [headings]
    for image, repository, tag in rows:
        row = [
            repository,
            tag,
            f"sha256:{image.id}" if full else image.id[:12],
            _ago(image, now),
            size_text(image.size),
        ]
        if digests:
            row.insert(2, image.digest)
        if history:
            row.append(", ".join(reversed(image.names)) or _NONE)
        if read_only:
            row.append(str(image.read_only).lower())
        table.append(row)
    return output.table(table)


def _summary(image: Image, containers: int) -> dict[str, Any]:
    return {
        "Id": image.id,
        "ParentId": "",
        "RepoTags": None,
        "RepoDigests": image.repo_digests,
        "Size": image.size,
        "SharedSize": 0,
        "VirtualSize": image.size,
        "Labels": image.labels or None,
        "Containers": containers,
    }


def _json(image: Image, containers: int) -> dict[str, Any]:
    from rootless.oci.image import rfc3339

    summary = _summary(image, containers)
    if image.read_only:
        summary["ReadOnly"] = True
    if not image.names:
        summary["Dangling"] = True
    summary["Digest"] = image.digest
    if image.names:
        summary["History"] = list(reversed(image.names))
        summary["Names"] = image.names
    summary["Created"] = int(image.created)
    summary["CreatedAt"] = rfc3339(int(image.created))
    return summary


_HEADINGS = {
    "ID": "IMAGE ID",
    "Id": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "Created": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED",
    "CreatedTime": "CREATED TIME",
    "Size": "SIZE",
    "VirtualSize": "VIRTUAL SIZE",
    "SharedSize": "SHARED SIZE",
    "Labels": "LABELS",
    "Containers": "CONTAINERS",
    "Names": "NAMES",
    "RepoTags": "REPO TAGS",
    "RepoDigests": "REPO DIGESTS",
    "History": "HISTORY",
    "ReadOnly": "R/O",
    "IsReadOnly": "IS READ ONLY",
    "Dangling": "DANGLING",
    "IsDangling": "IS DANGLING",
    "Arch": "ARCH",
    "Os": "OS",
    "ParentId": "PARENT ID",
    "IsManifestList": "IS MANIFEST LIST",
}


def _fields(row: tuple[Image, str, str], containers: int, now: float, full: bool) -> dict[str, Any]:
    import time

    from rootless.cli.template import Struct

    image, repository, tag = row
    moment = time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(image.created))
    fields = _summary(image, containers)
    fields.update(
        Repository=repository,
        Tag=tag,
        ID=f"sha256:{image.id}" if full else image.id[:12],
        Digest=image.digest,
        Created=_ago(image, now),
        CreatedAt=moment,
        CreatedSince=_ago(image, now),
        CreatedTime=moment,
        Size=size_text(image.size),
        VirtualSize=size_text(image.size),
        Labels=image.labels,
        Names=image.names,
        RepoTags=image.names,
        History=", ".join(reversed(image.names)),
        ReadOnly=image.read_only,
        IsReadOnly=image.read_only,
        Dangling=not image.names,
        IsDangling=not image.names,
        Arch=image.config.get("architecture") or "",
        Os=image.config.get("os") or "",
        IsManifestList=image.is_list,
    )
    return Struct(fields, "images.imageReporter")


def check(inv: Invocation) -> None:
    if len(inv.args) > 1:
        raise Usage("'podman images' requires at most 1 argument".replace("podman", "rootless"))


OPTIONS = (
    Option("all", "bool", "Intermediate images as well", short="a"),
    Option("digests", "bool", "Show the digests"),
    Option(
        "filter",
        "list",
        "Only images that fit, as in dangling=true",
        short="f",
        metavar="key=value",
    ),
    Option("format", "str", "Print as JSON or with a Go template", metavar="template"),
    Option("history", "bool", "Show the names that each image has had"),
    Option("no-trunc", "bool", "Print ids in full"),
    Option("noheading", "bool", "Leave out the headings", short="n"),
    Option("quiet", "bool", "Print the ids only", short="q"),
    Option("sort", "str", "Order: " + ", ".join(SORTS), default="created", choices=SORTS),
)
COMMAND = Command(
    "[options] [IMAGE]",
    main,
    OPTIONS,
    args=check,
    description="Lists the images that are here, the newest first.",
    examples=(
        "images",
        "images --filter dangling=true",
        "images --format '{{.Repository}} {{.Size}}'",
    ),
    complete="images",
)
