"""The image-spec's config document: parse, check, make (config.md), and docker's extensions of it.

Everything that later code relies on has its type checked here once: the document comes from strangers.
"""

from __future__ import annotations

from rootless import quickjson as json
from rootless.oci.digest import is_digest
from rootless.oci.document import CONFIG_MAX_BYTES, BadDocument, parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LAYERS_MAX = 1000


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _is_set(value: object) -> bool:
    return isinstance(value, dict)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_shell_or_texts(value: object) -> bool:
    # Very old dockers wrote a plain string for a command in shell form.
    return _is_text(value) or _is_texts(value)


_CONFIG_FIELDS: dict[str, Callable[[object], bool]] = {
    "User": _is_text,
    "ExposedPorts": _is_set,
    "Env": _is_texts,
    "Entrypoint": _is_shell_or_texts,
    "Cmd": _is_shell_or_texts,
    "Volumes": _is_set,
    "WorkingDir": _is_text,
    "Labels": _is_text_map,
    "StopSignal": _is_text,
    "ArgsEscaped": _is_flag,
    "OnBuild": _is_texts,
    "Shell": _is_texts,
    "Healthcheck": _is_set,
}
_TEXT_FIELDS = ("architecture", "os", "variant", "created", "author", "os.version", "comment")


def parse_config(data: bytes, what: str) -> dict[str, Any]:
    """Parse an image's config; `what` names it in errors."""
    document = parse_object(data, what, max_bytes=CONFIG_MAX_BYTES)
    for field in _TEXT_FIELDS:
        value = document.get(field)
        if value is not None and not _is_text(value):
            raise BadDocument(f"{what}: {field} is not a string")
    settings = document.get("config")
    if settings is not None:
        if not isinstance(settings, dict):
            raise BadDocument(f"{what}: config is not an object")
        for field, check in _CONFIG_FIELDS.items():
            value = settings.get(field)
            if value is not None and not check(value):
                raise BadDocument(f"{what}: config.{field} has the wrong type")
    diff_ids(document, what)
    history = document.get("history")
    if history is not None and (
        not isinstance(history, list) or not all(isinstance(one, dict) for one in history)
    ):
        raise BadDocument(f"{what}: history is not a list of objects")
    return document


def diff_ids(config: dict[str, Any], what: str) -> list[str]:
    """Return the diff IDs of an image's layers, base first."""
    rootfs = config.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type", "layers") != "layers":
        raise BadDocument(f"{what}: rootfs is missing or not of type layers")
    found = rootfs.get("diff_ids")
    if found is None:
        found = []
    if not isinstance(found, list) or not all(is_digest(one) for one in found):
        raise BadDocument(f"{what}: rootfs.diff_ids is not a list of digests")
    if len(found) > _LAYERS_MAX:
        raise BadDocument(f"{what}: {len(found)} layers exceed the limit of {_LAYERS_MAX}")
    return list(found)


def emit(document: dict[str, Any]) -> bytes:
    """Write a document as every other tool does: compact, in the order of its keys."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def rfc3339(seconds: float) -> str:
    """A time as the specs write it."""
    import time

    whole = int(seconds // 1)
    nanoseconds = round((seconds - whole) * 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{text}{fraction}Z"


def parse_time(text: str) -> float:
    """Read an RFC 3339 time; what is no time is the epoch, as nothing depends on it but sorting."""
    from rootless.rfc3339 import parse

    try:
        seconds, nanoseconds, _ = parse(text)
    except ValueError:
        return 0.0
    return seconds + nanoseconds / 1_000_000_000
