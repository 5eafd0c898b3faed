"""`--filter` of images and `image prune`: Podman's keys and meanings, each a predicate over an image."""

from __future__ import annotations

from fnmatch import fnmatchcase

from rootless.errors import RootlessError
from rootless.image.reference import parse
from rootless.image.remove import Family
from rootless.image.store import Image, ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Predicate = Callable[[Image], bool]

KEYS = (
    "after",
    "before",
    "containers",
    "dangling",
    "digest",
    "id",
    "intermediate",
    "label",
    "manifest",
    "readonly",
    "reference",
    "since",
    "until",
)


def compile_filters(
    store: ImageStore, words: list[str], users: Mapping[str, list[str]], now: float
) -> Predicate:
    """One predicate of all filters: those of one key are alternatives, labels and different keys add up."""
    groups: dict[str, list[Predicate]] = {}
    every: list[Predicate] = []
    family = None
    for word in words:
        key, equals, value = word.partition("=")
        negated = key.endswith("!")
        key = key.removesuffix("!")
        if not equals or key not in KEYS or (negated and key not in ("label", "reference")):
            raise RootlessError(
                f'invalid image filter "{word}": must be in the format "filter=value or filter!=value"'
                if not equals
                else f"unsupported image filter {word.partition('=')[0]!r}"
            )
        if key == "intermediate" and family is None:
            family = Family(store.list())
        test = _one(store, key, value, users, now, family)
        if negated:
            every.append(_negate(test))
        elif key == "label":
            every.append(test)
        else:
            groups.setdefault(key, []).append(test)

    def matches(image: Image) -> bool:
        return all(test(image) for test in every) and all(
            any(test(image) for test in tests) for tests in groups.values()
        )

    return matches


def _negate(test: Predicate) -> Predicate:
    return lambda image: not test(image)


def _one(
    store: ImageStore,
    key: str,
    value: str,
    users: Mapping[str, list[str]],
    now: float,
    family: Family | None,
) -> Predicate:
    if key in ("before", "after", "since"):
        other = store.find(value)
        if other is None:
            raise RootlessError(
                f'could not find local image for filter "{key}"="{value}": {value}: image not known'
            )
        created = other.created
        if key == "before":
            return lambda image: image.created < created
        return lambda image: image.created > created
    if key == "until":
        limit = until(value, now)
        return lambda image: image.created < limit
    if key == "label":
        name, equals, wanted = value.partition("=")
        return lambda image: name in image.labels and (not equals or image.labels[name] == wanted)
    if key == "id":
        return lambda image: image.id.startswith(value.removeprefix("sha256:"))
    if key == "digest":
        return lambda image: any(
            fnmatchcase(digest, value) or digest.startswith(value) for digest in image.digests
        )
    if key == "reference":
        return reference_filter(store, value)
    if key == "containers" and value == "external":
        return lambda image: False  # every container in the store is ours
    if value.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise RootlessError(f"non-boolean value {value!r} for {key} filter")
    wanted_flag = value.lower() in ("true", "1", "t")
    if key == "dangling":
        return lambda image: (not image.names) == wanted_flag
    if key == "readonly":
        return lambda image: image.read_only == wanted_flag
    if key == "containers":
        return lambda image: bool(users.get(image.id)) == wanted_flag
    if key == "manifest":
        return lambda image: image.is_list == wanted_flag
    assert family is not None
    return lambda image: (not image.names and bool(family.children(image))) == wanted_flag


def _resolved(store: ImageStore, text: str) -> str:
    """The id of the image or list that a name means; empty where it means none."""
    from rootless.image import lists

    try:
        found = store.find(text) if store.resolve(text) is not None else None
        known = found or lists.find(store, text) or store.find(text)
    except RootlessError:
        return ""
    return known.id if known is not None else ""


def reference_filter(store: ImageStore, pattern: str) -> Predicate:
    """A name as it resolves here, or a pattern over full names, repositories or their last parts."""
    identity = _resolved(store, pattern)

    def matches(image: Image) -> bool:
        if image.id == identity:
            return True
        for name in image.names:
            reference = parse(name)
            repository = reference.name
            tail = name.removeprefix(f"{reference.domain}/")
            parts = [name, repository, tail, tail.rpartition(":")[0], name.rpartition("/")[2]]
            parts.append(repository.rpartition("/")[2])
            if reference.domain == "docker.io":
                parts.append(tail.removeprefix("library/"))
            if any(fnmatchcase(part, pattern) for part in parts):
                return True
        return False

    return matches


def until(text: str, now: float) -> float:
    """A moment in seconds since 1970, given as such, as a duration before now, or as an RFC 3339 time or date."""
    from rootless.moments import moment_ns

    try:
        return moment_ns(text, int(now * 1e9)) / 1e9
    except ValueError:
        raise RootlessError(f"unable to parse {text!r} as a time or a duration") from None
