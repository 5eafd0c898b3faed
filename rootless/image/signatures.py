"""Simple signing: where signatures are kept, and what gpg says of them.

containers-signature(5), containers-registries.d(5). gpg does the cryptography, in a key ring that holds the expected keys
only; no word of a payload is read before gpg has accepted it.
"""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit

from rootless import paths
from rootless.errors import InvalidReference, NotFound, PolicyError, RegistryError, RootlessError
from rootless.image import reference
from rootless.image.reference import Reference
from rootless.image.transport import Transport
from rootless.oci.digest import is_digest
from rootless.oci.document import parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_TYPE = "atomic container signature"
_SIGNATURE_MAX_BYTES = 4 << 20
_SIGNATURES_MAX = 64
_SYSTEM_REGISTRIES_D = "/etc/containers/registries.d"


class Claim:
    """What an accepted signature says: this manifest is that image."""

    __slots__ = ("digest", "identity")

    def __init__(self, digest: str, identity: Reference) -> None:
        self.digest = digest
        self.identity = identity


def load_all(ref: Reference, digest: str, transport: Transport) -> Iterator[bytes]:
    """Yield the signatures of a manifest that its registry's signature storage has."""
    base = lookaside(ref)
    if not base:
        return
    for number in range(1, _SIGNATURES_MAX + 1):
        data = _load(_address(base, ref, digest, number), transport)
        if data is None:
            return
        yield data


def store(ref: Reference, digest: str, signature: bytes, directory: str = "") -> str:
    """Add a signature to the storage, which must be a folder; return its file."""
    base = f"file://{os.path.abspath(directory)}" if directory else lookaside(ref, staging=True)
    parts = urlsplit(base)
    if parts.scheme != "file":
        raise RootlessError(
            f"{ref}: its signature storage {base or '(none)'} is not a folder",
            hint="set lookaside-staging to a file:// address in registries.d, or give --directory",
        )
    number = 1
    while True:
        path = urlsplit(_address(base, ref, digest, number)).path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(path, "xb") as file:
                file.write(signature)
        except FileExistsError:
            number += 1
            continue
        return path


def lookaside(ref: Reference, *, staging: bool = False) -> str:
    """Return the base URL of an image's signature storage, as registries.d says; the user's own by default."""
    config = _registries_d()
    found = next(
        (config["docker"][scope] for scope in reference.scopes(ref) if scope in config["docker"]),
        None,
    )
    if found is None:
        found = config["default-docker"]
    if found is None:
        if os.geteuid() == 0:
            return "file:///var/lib/containers/sigstore"
        return f"file://{paths.home()}/.local/share/containers/sigstore"
    if staging:
        for key in ("lookaside-staging", "sigstore-staging"):
            if found.get(key):
                return str(found[key])
    return str(found.get("lookaside") or found.get("sigstore") or "")


def verify(signature: bytes, keyrings: list[bytes]) -> Claim:
    """Let gpg verify a signature against the keys of some key rings; return what it claims."""
    import shutil
    import subprocess
    import tempfile

    if shutil.which("gpg") is None:
        raise PolicyError("a signature is required, and gpg is missing", hint="install gnupg")
    with tempfile.TemporaryDirectory(prefix="rootless-gpg-") as home:
        base = [
            "gpg",
            "--batch",
            "--no-tty",
            "--no-options",
            "--homedir",
            home,
            "--trust-model",
            "always",
        ]
        known: set[str] = set()
        for number, keyring in enumerate(keyrings):
            done = subprocess.run(
                [*base, "--status-fd", "1", "--import"],
                input=keyring,
                capture_output=True,
                check=False,
            )
            for line in done.stdout.decode(errors="replace").splitlines():
                words = line.split()
                if words[1:2] == ["IMPORT_OK"]:
                    known.add(words[3])
            if not known and number == len(keyrings) - 1:
                raise PolicyError("the key ring of policy.json holds no usable public key")
        status_read, status_write = os.pipe()
        try:
            done = subprocess.run(
                [*base, "--status-fd", str(status_write), "--decrypt"],
                input=signature,
                capture_output=True,
                pass_fds=(status_write,),
                check=False,
                timeout=60,
            )
            os.close(status_write)
            status_write = -1
            status = b""
            while part := os.read(status_read, 65536):
                status += part
        finally:
            os.close(status_read)
            if status_write >= 0:
                os.close(status_write)
    _check_status(status.decode(errors="replace"), known)
    return parse_payload(done.stdout)


def _check_status(status: str, known: set[str]) -> None:
    """Accept exactly one good signature by a known, unexpired key, and nothing that was encrypted or unsigned."""
    words = [line.split()[1:] for line in status.splitlines() if line.startswith("[GNUPG:] ")]
    kinds = [one[0] for one in words if one]
    bad = {
        "BADSIG",
        "ERRSIG",
        "EXPSIG",
        "EXPKEYSIG",
        "REVKEYSIG",
        "NO_PUBKEY",
        "NODATA",
        "BEGIN_DECRYPTION",
    }
    valid = [one for one in words if one and one[0] == "VALIDSIG"]
    found = bad.intersection(kinds)
    if found or kinds.count("GOODSIG") != 1 or len(valid) != 1:
        reasons = {
            "NO_PUBKEY": "made by an unknown key",
            "ERRSIG": "made by an unknown key",
            "EXPKEYSIG": "made by an expired key",
            "EXPSIG": "expired",
            "REVKEYSIG": "made by a revoked key",
        }
        why = next((reasons[kind] for kind in kinds if kind in reasons), "not valid")
        raise PolicyError(f"the signature is {why}")
    # The last word is the primary key's fingerprint, the first one that of the (sub)key that signed.
    if not known.intersection((valid[0][1], valid[0][-1])):
        raise PolicyError("the signature is made by an unknown key")


def parse_payload(data: bytes) -> Claim:
    """Read a payload as strictly as containers-signature(5) asks."""
    what = "the signature"
    document = parse_object(data, what)
    critical, optional = document.get("critical"), document.get("optional")
    if (
        set(document) != {"critical", "optional"}
        or not isinstance(critical, dict)
        or not isinstance(optional, dict)
    ):
        raise PolicyError(f"{what} does not have the expected form")
    image, identity = critical.get("image"), critical.get("identity")
    if (
        set(critical) != {"type", "image", "identity"}
        or critical["type"] != _TYPE
        or not isinstance(image, dict)
        or set(image) != {"docker-manifest-digest"}
        or not isinstance(identity, dict)
        or set(identity) != {"docker-reference"}
        or not is_digest(image["docker-manifest-digest"])
        or not isinstance(identity["docker-reference"], str)
    ):
        raise PolicyError(f"{what} does not have the expected form")
    try:
        name = reference.parse_normalised(identity["docker-reference"])
    except InvalidReference as error:
        raise PolicyError(f"{what}: {error}") from error
    return Claim(image["docker-manifest-digest"], name)


def sign(ref: Reference, digest: str, key: str, passphrase_file: str = "") -> bytes:
    """Make a signature with a key of the user's own key ring."""
    import json
    import subprocess
    import time

    payload = {
        "critical": {
            "identity": {"docker-reference": str(ref)},
            "image": {"docker-manifest-digest": digest},
            "type": _TYPE,
        },
        "optional": {"creator": "rootless", "timestamp": int(time.time())},
    }
    command = ["gpg", "--batch", "--no-tty", "--local-user", key, "--sign"]
    if passphrase_file:
        command[1:1] = ["--pinentry-mode", "loopback", "--passphrase-file", passphrase_file]
    try:
        done = subprocess.run(
            command, input=json.dumps(payload).encode(), capture_output=True, check=False
        )
    except FileNotFoundError:
        raise NotFound(
            "gpg: no such program, and it makes the signatures", hint="install gnupg"
        ) from None
    if done.returncode or not done.stdout:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["unknown error"]
        raise RootlessError(f"{ref}: signing with key {key!r} failed: {words[-1]}")
    return done.stdout


def _address(base: str, ref: Reference, digest: str, number: int) -> str:
    algorithm, _, value = digest.partition(":")
    return f"{base.rstrip('/')}/{ref.path}@{algorithm}={value}/signature-{number}"


def _load(url: str, transport: Transport) -> bytes | None:
    parts = urlsplit(url)
    if parts.scheme == "file":
        try:
            with open(parts.path, "rb") as file:
                data = file.read(_SIGNATURE_MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RootlessError(f"{parts.path}: cannot read signature: {error.strerror}") from error
        if len(data) > _SIGNATURE_MAX_BYTES:
            raise PolicyError(f"{parts.path}: exceeds the limit of {_SIGNATURE_MAX_BYTES} bytes")
        return data
    # Signatures prove themselves, so http is as good as https; credentials are not sent to either.
    with transport.request(
        "GET", quote(url, safe=":/@=%"), insecure=parts.scheme == "http"
    ) as response:
        if response.status == 404:
            return None
        if response.status != 200:
            raise RegistryError(f"{url}: signature storage answered {response.status}")
        return response.read(_SIGNATURE_MAX_BYTES)


def _registries_d() -> dict[str, Any]:
    """Read registries.d: the user's folder, or else the system's."""
    folder = f"{paths.config_home()}/containers/registries.d"
    if not os.path.isdir(folder):
        folder = _SYSTEM_REGISTRIES_D
    merged: dict[str, Any] = {"docker": {}, "default-docker": None}
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return merged
    for name in names:
        path = f"{folder}/{name}"
        if not name.endswith(".yaml"):
            continue
        with open(path, encoding="utf-8") as file:
            document = parse_mappings(file.read(), path)
        default = document.get("default-docker")
        if isinstance(default, dict):
            if merged["default-docker"] is not None:
                raise RootlessError(
                    f"{path}: default-docker is set in another file of {folder} already"
                )
            merged["default-docker"] = default
        for scope, section in (document.get("docker") or {}).items():
            if scope in merged["docker"]:
                raise RootlessError(f"{path}: {scope} is set in another file of {folder} already")
            merged["docker"][scope] = section if isinstance(section, dict) else {}
    return merged


def parse_mappings(text: str, path: str) -> dict[str, Any]:
    """Parse the part of YAML that registries.d is written in: nested mappings with plain or quoted scalars."""
    root: dict[str, Any] = {}
    open_maps: list[tuple[int, dict[str, Any]]] = [(-1, root)]
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.split(" #")[0].rstrip() if not line.lstrip().startswith("#") else ""
        if not bare or bare == "---":
            continue
        indent = len(bare) - len(bare.lstrip(" "))
        content = bare.strip()
        # A key may hold a port: what ends it is a colon before a blank or the end of the line.
        key, colon, value = content.partition(": ")
        if not colon and content.endswith(":"):
            key, colon, value = content[:-1], ":", ""
        if not colon or content[0] in "-[{&*|>\t" or value[:1] in ("[", "&", "*", "|", ">"):
            raise RootlessError(
                f"{path}:{number}: not a plain `key: value`, which is all that registries.d needs"
            )
        while open_maps[-1][0] >= indent:
            open_maps.pop()
        target = open_maps[-1][1]
        key, value = _unquote(key), value.strip()
        if key in target:
            raise RootlessError(f"{path}:{number}: {key} is set twice")
        if value in ("", "{}"):
            target[key] = {}
            open_maps.append((indent, target[key]))
        else:
            target[key] = _unquote(value)
    return root


def _unquote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
