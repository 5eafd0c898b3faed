"""`rootless search`: look for images, and for their tags, in registries."""

from __future__ import annotations

from rootless.cli import registry_options as shared
from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.image.registry import SearchResult
    from rootless.image.session import Session

_WIDTH = 44
_TRUE = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def main(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.image.session import Session

    if not inv.args:
        raise Usage("search requires an argument")
    if inv.number("limit") < 0:
        raise Usage("--limit: must not be negative")
    wanted = _filters(inv.words("filter"))
    if inv.flag("list-tags"):
        if inv.words("filter"):
            raise Usage("filters are not applicable to list tags result")
    elif not inv.args[0]:
        raise Usage("search requires an argument")
    with Session(shared.access(inv)) as session:
        if inv.flag("list-tags"):
            name, tags = _tags(inv.args[0], session)
            tags = tags[: inv.number("limit")] if inv.given("limit") else tags[:25]
            if inv.text("format") == "json":
                output.line(output.to_json([{"Name": name, "Tags": tags}]))
                return 0
            rows = [_row("", name, tag=tag) for tag in tags]
            _print(inv, rows, "table {{.Name}}\t{{.Tag}}")
            return 0
        rows = _search(inv.args[0], inv.number("limit") or 25, wanted, session)
    if not inv.flag("no-trunc") and inv.text("format") != "json":
        for row in rows:
            row["Description"] = output.truncate(row["Description"], _WIDTH + 3)
    if inv.text("format") == "json":
        output.line(output.to_json(rows))
        return 0
    columns = "table {{.Name}}\t{{.Description}}"
    if inv.flag("compatible"):
        columns += "\t{{.Stars}}\t{{.Official}}\t{{.Automated}}"
    _print(inv, rows, columns)
    return 0


def _print(inv: Invocation, rows: list[dict[str, Any]], columns: str) -> None:
    from rootless.cli import listing, output

    form = inv.text("format") or columns
    if not rows and not inv.given("format"):
        return
    headings = {name: name.upper() for name in _row("", "")}
    output.write(listing.render("search", rows, form, headings))


def _row(host: str, name: str, result: SearchResult | None = None, tag: str = "") -> dict[str, Any]:
    return {
        "Index": host,
        "Name": name,
        "Description": result.description if result else "",
        "Stars": result.stars if result else 0,
        "Official": "[OK]" if result and result.official else "",
        "Automated": "[OK]" if result and result.automated else "",
        "Tag": tag,
    }


def _tags(text: str, session: Session) -> tuple[str, list[str]]:
    from rootless.image import reference

    transport, rest = reference.split_transport(text)
    if transport not in ("", "docker"):
        raise Usage(f"{text}: tags are listed for docker:// names only")
    ref = reference.parse_normalised(rest).repository()
    errors: list[RootlessError] = []
    for endpoint in session.config.endpoints(ref):
        try:
            return str(ref), session.at(endpoint).tags(endpoint.reference.path)
        except RootlessError as error:
            errors.append(error)
    raise errors[-1]


def _search(
    term: str, limit: int, wanted: Callable[[SearchResult], bool], session: Session
) -> list[dict[str, Any]]:
    from rootless.image.reference import Reference
    from rootless.image.registries import Endpoint

    first, slash, rest = term.partition("/")
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    hosts = [first] if named else session.config.search
    if not hosts:
        raise Usage(
            "no registries to search: registries.conf names no unqualified-search-registries",
            hint=f"name one, as in docker.io/{term}",
        )
    word = rest if named else term
    rows: list[dict[str, Any]] = []
    errors: list[RootlessError] = []
    for host in hosts:
        ref = Reference(host, word or "x")
        session.config.check_blocked(ref)
        endpoint = Endpoint(ref, session.config.is_insecure(ref))
        try:
            results = session.at(endpoint).search(word, limit)
        except RootlessError as error:
            errors.append(error)
            continue
        rows += [
            _row(host, f"{host}/{_full(host, one.name)}", one) for one in results if wanted(one)
        ]
    if errors and len(errors) == len(hosts):
        raise errors[-1]
    for one_error in errors:
        shared.say_error(one_error)
    return rows


def _full(host: str, name: str) -> str:
    return f"library/{name}" if host == "docker.io" and "/" not in name else name


def _filters(words: list[str]) -> Callable[[SearchResult], bool]:
    checks: list[Callable[[SearchResult], bool]] = []
    for word in words:
        key, equals, value = word.partition("=")
        if key == "stars":
            if equals and not value.isdigit():
                raise Usage(f"--filter stars={value}: not a number")
            least = int(value or 0)
            checks.append(lambda one, least=least: one.stars >= least)  # type: ignore[misc]
        elif key in ("is-official", "is-automated"):
            if equals and value.lower() not in _TRUE:
                raise Usage(f"--filter {key}={value}: neither true nor false")
            flag = _TRUE[value.lower()] if equals else True
            attribute = key.removeprefix("is-")
            checks.append(
                lambda one, attribute=attribute, flag=flag: getattr(one, attribute) is flag  # type: ignore[misc]
            )
        else:
            raise Usage(
                f"invalid filter type {word!r}",
                hint="stars, is-official and is-automated are known",
            )
    return lambda one: all(check(one) for check in checks)


COMMAND = Command(
    "[options] TERM",
    main,
    (
        shared.AUTHFILE,
        shared.CERT_DIR,
        Option("compatible", "bool", "Show stars, official and automated as well"),
        shared.CREDS,
        Option("filter", "list", "Only what fits: stars=, is-official=, is-automated=", short="f"),
        Option("format", "str", "Print as JSON or with a Go template", metavar="template"),
        Option("limit", "int", "Show at most so many results (25)"),
        Option("list-tags", "bool", "List the tags of one repository"),
        Option("no-trunc", "bool", "Show descriptions whole"),
        shared.TLS_VERIFY,
    ),
    args=(1, 1),
    description="Searches the registries that registries.conf names, or the one that the term begins with.",
    examples=("search docker.io/debian", "search --list-tags docker.io/library/debian"),
)
