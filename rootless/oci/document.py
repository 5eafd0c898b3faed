"""JSON from elsewhere: bounded in size and depth, and without keys that two readers would read differently."""

from __future__ import annotations

from rootless import quickjson as json
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# distribution-spec: a registry must take manifests of 4 MiB; none is known that serves larger ones.
MANIFEST_MAX_BYTES = 4 << 20
CONFIG_MAX_BYTES = 16 << 20
_DEPTH_MAX = 100


class BadDocument(RootlessError):
    """A document breaks its specification."""


def parse_object(data: bytes, what: str, *, max_bytes: int = MANIFEST_MAX_BYTES) -> dict[str, Any]:
    """Parse a JSON object; `what` names it in errors."""
    document = _parse(data, what, max_bytes)
    if not isinstance(document, dict):
        raise BadDocument(f"{what}: not a JSON object")
    return document


def parse_list(data: bytes, what: str, *, max_bytes: int = MANIFEST_MAX_BYTES) -> list[Any]:
    """Parse a JSON list."""
    document = _parse(data, what, max_bytes)
    if not isinstance(document, list):
        raise BadDocument(f"{what}: not a JSON list")
    return document


def _parse(data: bytes, what: str, max_bytes: int) -> object:
    if len(data) > max_bytes:
        raise BadDocument(f"{what}: {len(data)} bytes exceed the limit of {max_bytes}")
    # Checked before parsing: the parser recurses in C, and what an abyss does there depends on its version.
    if _depth(data) > _DEPTH_MAX:
        raise BadDocument(f"{what}: nested more than {_DEPTH_MAX} levels deep")
    try:
        document: object = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadDocument(f"{what}: not valid JSON: {error}") from error
    return document


def _depth(data: bytes) -> int:
    """Return how deep the brackets nest, counting those in strings too if that is over the limit anyway."""
    if data.count(b"[") + data.count(b"{") <= _DEPTH_MAX:
        return 0
    depth = deepest = 0
    in_string = escaped = False
    for byte in data:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            deepest = max(deepest, depth)
        elif byte in (0x5D, 0x7D):
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {key!r} occurs twice in one object")
            seen.add(key)
    return found
