"""Digests as the image-spec writes them: `algorithm:hex`, checked before they name a path or a URL.

A hot module: no imports but hashlib, and that one only inside the function that needs it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash

# The algorithms that both image-spec registers and this engine can verify, with their length in hex.
HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


def is_hex(text: str) -> bool:
    """Tell whether text holds lower-case hexadecimal digits only."""
    return bool(text) and _HEX.issuperset(text)


def is_digest(text: object) -> bool:
    """Tell whether text is a whole, well-formed digest of a known algorithm.

    Everything else could walk out of the blob folder or rewrite a URL (CVE-2024-3727).
    """
    if not isinstance(text, str):
        return False
    algorithm, _, value = text.partition(":")
    return len(value) == HEX_LENGTH.get(algorithm, -1) and is_hex(value)


def hasher(digest: str) -> _Hash:
    """Return a fresh hash object for the algorithm of a digest that is_digest has accepted."""
    import hashlib

    return hashlib.new(digest.partition(":")[0], usedforsecurity=True)


def sha256(data: bytes) -> str:
    """Return the sha256 digest of data."""
    import hashlib

    return "sha256:" + hashlib.sha256(data).hexdigest()
