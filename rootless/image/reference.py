"""Image references as github.com/distribution/reference and containers/image read them.

    [transport:][domain/]path[:tag][@digest]

`run` parses one on every start, so this module imports nothing and uses no regular expression.
"""

from __future__ import annotations

from rootless.errors import InvalidReference
from rootless.oci.digest import is_digest, is_hex

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_NAME_MAX = 255
_TAG_MAX = 128

TRANSPORTS = (
    "docker",
    "oci",
    "oci-archive",
    "docker-archive",
    "dir",
    "containers-storage",
    "docker-daemon",
    "sif",
    "ostree",
    "tarball",
)


class Reference:
    """One parsed reference; `domain` is empty as long as a short name has not been resolved."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str = "", digest: str = "") -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def name(self) -> str:
        """The repository: domain and path, without tag and digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    @property
    def is_short(self) -> bool:
        return not self.domain

    @property
    def is_name_only(self) -> bool:
        return not self.tag and not self.digest

    def __str__(self) -> str:
        text = self.name
        if self.tag:
            text = f"{text}:{self.tag}"
        if self.digest:
            text = f"{text}@{self.digest}"
        return text

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def with_default_tag(self) -> Reference:
        """Return the reference with `:latest` where it names neither tag nor digest."""
        if self.is_name_only:
            return Reference(self.domain, self.path, DEFAULT_TAG)
        return self

    def with_domain(self, domain: str) -> Reference:
        """Return a short name completed by a registry (or registry/namespace)."""
        host, _, prefix = domain.partition("/")
        path = f"{prefix}/{self.path}" if prefix else self.path
        return Reference(*_normalise(host, path), self.tag, self.digest)

    def repository(self) -> Reference:
        """Return the reference without tag and digest."""
        return Reference(self.domain, self.path)

    def without_tag(self) -> Reference:
        """Return what a registry is asked for: of tag and digest, the digest decides."""
        return Reference(self.domain, self.path, "", self.digest) if self.digest else self


def parse(text: str) -> Reference:
    """Parse a reference strictly; a short name keeps an empty domain.

    Raises InvalidReference, which quotes the text and says what is wrong with it.
    """
    name, tag, digest = _split(text)
    domain, path = _split_domain(name)
    if domain:
        _check_domain(text, domain)
        domain, path = _normalise(domain, path)
    _check_path(text, path)
    if len(domain) + len(path) + bool(domain) > _NAME_MAX:
        raise _invalid(text, f"repository name must not be more than {_NAME_MAX} characters")
    if not domain and len(path) == 64 and is_hex(path):
        raise _invalid(text, "a name of 64 hexadecimal digits would be taken for an image id")
    return Reference(domain, path, tag, digest)


def parse_normalised(text: str) -> Reference:
    """Parse as docker does: a short name means the default registry."""
    reference = parse(text)
    return reference if reference.domain else reference.with_domain(DEFAULT_DOMAIN)


def candidates(reference: Reference) -> list[Reference]:
    """Return the full names under which a local image may be kept for a given reference.

    The order is Podman's: what was built or tagged here, before any registry's.
    """
    if reference.domain:
        return [reference]
    return [reference.with_domain("localhost"), reference.with_domain(DEFAULT_DOMAIN)]


def scopes(ref: Reference) -> list[str]:
    """Return the scopes that cover an image, most specific first, wildcards for subdomains last."""
    name = ref.name
    found = [str(ref.with_default_tag())]
    while True:
        found.append(name)
        parent, slash, _ = name.rpartition("/")
        if not slash:
            break
        name = parent
    host = ref.domain.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        found.append(f"*.{host}")
    return found


def split_transport(text: str) -> tuple[str, str]:
    """Split `transport:rest`; the transport is empty where the text is a plain name.

    `oci:dir` and `oci:tag` look alike; like Podman, a known transport's name wins.
    """
    transport, colon, rest = text.partition(":")
    if not colon or transport not in TRANSPORTS:
        return "", text
    if transport == "docker":
        if not rest.startswith("//"):
            return "", text
        return transport, rest[2:]
    return transport, rest


def is_image_id(text: str) -> bool:
    """Tell whether text can be an image id or an abbreviation of one."""
    text = text.removeprefix("sha256:")
    return len(text) <= 64 and is_hex(text)


def check_tag(text: str, tag: str) -> None:
    plain = tag.replace(".", "").replace("-", "").replace("_", "")
    if (
        len(tag) > _TAG_MAX
        or not tag.isascii()
        or tag[:1] in ("", ".", "-")
        or (plain and not plain.isalnum())
    ):
        raise _invalid(text, f"bad tag {tag!r}")


def _split(text: str) -> tuple[str, str, str]:
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _invalid(text, f"bad digest {digest!r}")
    # The last colon starts a tag, unless a slash follows: then it is the registry's port.
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag or (head.startswith("[") and "]" not in head):
        return rest, "", digest
    check_tag(text, tag)
    return head, tag, digest


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return first, rest
    return "", name


def _normalise(domain: str, path: str) -> tuple[str, str]:
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and path and "/" not in path:
        path = "library/" + path
    return domain, path


def _check_domain(text: str, domain: str) -> None:
    host, port = domain, ""
    if domain.startswith("["):
        host, bracket, port = domain[1:].partition("]")
        if not bracket or not host or not set(host.lower()) <= set("0123456789abcdef:"):
            raise _invalid(text, f"bad registry {domain!r}")
        if port and not port.startswith(":"):
            raise _invalid(text, f"bad registry {domain!r}")
        has_port, port = bool(port), port[1:]
    else:
        host, colon, port = domain.partition(":")
        has_port = bool(colon)
        for part in host.split("."):
            plain = part.replace("-", "")
            if not (plain.isascii() and plain.isalnum()) or part[0] == "-" or part[-1] == "-":
                raise _invalid(text, f"bad registry {domain!r}")
    if has_port and not (port.isascii() and port.isdigit()):
        raise _invalid(text, f"bad registry {domain!r}")


def _check_path(text: str, path: str) -> None:
    if path != path.lower():
        raise _invalid(text, "repository name must be lowercase")
    for part in path.split("/"):
        if part.isascii() and part.isalnum():
            continue
        if not _is_component(part):
            raise _invalid(text, f"bad path component {part!r}" if part else "")


def _is_component(part: str) -> bool:
    """Check `[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*` for a part that is not alphanumeric alone."""
    if not part.isascii() or not part:
        return False
    if not (part[0].isalnum() and part[-1].isalnum()):
        return False
    separator = ""
    for char in part:
        if char in "._-":
            separator += char
        elif not char.isalnum():
            return False
        else:
            if separator not in ("", ".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
    return True


def _invalid(text: str, detail: str) -> InvalidReference:
    shown = text if len(text) <= 300 else text[:300] + "…"
    message = f"{shown!r}: invalid reference format" if shown else "an empty image name"
    return InvalidReference(f"{message}: {detail}" if detail else message)
