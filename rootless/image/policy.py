"""policy.json: which images may be used, and what must vouch for them.

containers-policy.json(5). Read strictly: a word that is not understood refuses every image, and the error names the rule.
"""

from __future__ import annotations

import os

from rootless import files, log, paths
from rootless.errors import InvalidReference, PolicyError, RootlessError
from rootless.image import reference
from rootless.image.reference import Reference
from rootless.oci.document import parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_SYSTEM = "/etc/containers/policy.json"
_REQUIREMENT_KEYS = {
    "insecureAcceptAnything": {"type"},
    "reject": {"type"},
    "signedBy": {"type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"},
    "sigstoreSigned": {
        "type",
        "keyPath",
        "keyPaths",
        "keyData",
        "keyDatas",
        "fulcio",
        "pki",
        "rekorPublicKeyPath",
        "rekorPublicKeyPaths",
        "rekorPublicKeyData",
        "rekorPublicKeyDatas",
        "signedIdentity",
    },
}
_IDENTITY_KEYS = {
    "matchExact": {"type"},
    "matchRepoDigestOrExact": {"type"},
    "matchRepository": {"type"},
    "exactReference": {"type", "dockerReference"},
    "exactRepository": {"type", "dockerRepository"},
    "remapIdentity": {"type", "prefix", "signedPrefix"},
}


class Candidate:
    """An image that asks to be let in."""

    __slots__ = ("digest", "identity", "scopes", "signatures", "transport")

    def __init__(
        self,
        transport: str,
        scopes: list[str],
        identity: Reference | None,
        digest: str,
        signatures: Callable[[], Iterable[bytes]],
    ) -> None:
        self.transport = transport
        # Full names or absolute paths, most specific first.
        self.scopes = scopes
        # What the user called it; transports of files have none.
        self.identity = identity
        self.digest = digest
        # Fetches the signatures only where a rule wants them.
        self.signatures = signatures


class Policy:
    def __init__(self, document: dict[str, Any], path: str) -> None:
        self.document = document
        self.path = path

    def rules_for(self, transport: str, scopes: Iterable[str]) -> tuple[str, list[dict[str, Any]]]:
        """Return the rules for an image and where they stand in the file."""
        table = self.document.get("transports", {}).get(transport)
        if table is not None:
            for scope in (*scopes, ""):
                if scope in table:
                    return f"transports.{transport}.{scope!r}", table[scope]
        return "default", self.document["default"]

    def check(self, candidate: Candidate) -> None:
        """Raise PolicyError unless every rule for the image is content with it."""
        where, rules = self.rules_for(candidate.transport, candidate.scopes)
        name = str(candidate.identity or candidate.scopes[0])
        for rule in rules:
            kind = rule["type"]
            if kind == "insecureAcceptAnything":
                continue
            if kind == "reject":
                raise PolicyError(f"{name}: rejected by policy: {where} in {self.path} says reject")
            if kind == "sigstoreSigned":
                raise PolicyError(
                    f"{name}: {where} in {self.path} asks for a sigstore signature, which cannot be verified here",
                    hint="pull it with podman or skopeo into an oci: folder, and allow that transport",
                )
            self._check_signed(candidate, rule, f"{where} in {self.path}", name)

    def _check_signed(
        self, candidate: Candidate, rule: dict[str, Any], where: str, name: str
    ) -> None:
        from rootless.image import signatures

        keyrings = _keyrings(rule, self.path)
        reasons: list[str] = []
        for signature in candidate.signatures():
            try:
                claim = signatures.verify(signature, keyrings)
                if claim.digest != candidate.digest:
                    raise PolicyError(
                        f"the signature is for manifest {claim.digest}, not {candidate.digest}"
                    )
                if not _identity_matches(
                    rule.get("signedIdentity"), candidate.identity, claim.identity
                ):
                    raise PolicyError(f"the signature is for {claim.identity}")
                return
            except RootlessError as error:
                reasons.append(error.message)
        why = "; ".join(reasons) if reasons else "it has no signature"
        raise PolicyError(f"{name}: {where} asks for a signature: {why}")


def load(path: str = "") -> Policy:
    """Read the policy; without any file on this host, everything is accepted and that is said."""
    candidates = [path] if path else [f"{paths.config_home()}/containers/policy.json", _SYSTEM]
    for one in candidates:
        try:
            data = files.read_bytes(one)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise PolicyError(f"{one}: cannot read the image policy: {error.strerror}") from error
        return Policy(check_document(parse_object(data, one), one), one)
    if path:
        raise PolicyError(f"{path}: no such policy file")
    log.info(f"no {_SYSTEM}: images are accepted whoever made them")
    return Policy({"default": [{"type": "insecureAcceptAnything"}]}, "(built in)")


def user_path() -> str:
    """The file that `image trust set` writes."""
    return _SYSTEM if os.geteuid() == 0 else f"{paths.config_home()}/containers/policy.json"


def docker_scopes(ref: Reference) -> list[str]:
    return reference.scopes(ref)


def path_scopes(path: str, tag: str = "") -> list[str]:
    """Return the scopes of an image in a file or folder: itself and every folder above it but /."""
    path = os.path.realpath(path)
    found = [f"{path}:{tag}"] if tag else []
    while path != "/":
        found.append(path)
        path = os.path.dirname(path)
    return found


def check_document(document: dict[str, Any], path: str) -> dict[str, Any]:
    if not set(document) <= {"default", "transports"} or "default" not in document:
        raise PolicyError(f"{path}: must have `default`, may have `transports`, and nothing else")
    _check_rules(document["default"], f"{path}: default")
    transports = document.get("transports", {})
    if not isinstance(transports, dict):
        raise PolicyError(f"{path}: transports is not an object")
    for transport, table in transports.items():
        if not isinstance(table, dict):
            raise PolicyError(f"{path}: transports.{transport} is not an object")
        for scope, rules in table.items():
            _check_rules(rules, f"{path}: transports.{transport}.{scope!r}")
    return document


def _check_rules(rules: object, where: str) -> None:
    if not isinstance(rules, list) or not rules:
        raise PolicyError(f"{where}: must be a list of at least one requirement")
    for rule in rules:
        kind = rule.get("type") if isinstance(rule, dict) else None
        if kind not in _REQUIREMENT_KEYS:
            raise PolicyError(f"{where}: unknown requirement type {kind!r}")
        unknown = set(rule) - _REQUIREMENT_KEYS[kind]
        if unknown:
            raise PolicyError(f"{where}: {kind}: unknown key {sorted(unknown)[0]!r}")
        if kind != "signedBy":
            continue
        if rule.get("keyType") not in ("GPGKeys", "signedByGPGKeys"):
            raise PolicyError(
                f"{where}: keyType {rule.get('keyType')!r} is not supported, only GPGKeys is"
            )
        if sum(key in rule for key in ("keyPath", "keyPaths", "keyData")) != 1:
            raise PolicyError(f"{where}: needs exactly one of keyPath, keyPaths and keyData")
        _check_identity(rule.get("signedIdentity"), where)


def _check_identity(identity: object, where: str) -> None:
    if identity is None:
        return
    kind = identity.get("type") if isinstance(identity, dict) else None
    if (
        not isinstance(identity, dict)
        or kind not in _IDENTITY_KEYS
        or set(identity) != _IDENTITY_KEYS[kind]
    ):
        raise PolicyError(f"{where}: signedIdentity is not understood")
    for key in ("dockerReference", "dockerRepository"):
        if key in identity:
            try:
                reference.parse_normalised(str(identity[key]))
            except InvalidReference as error:
                raise PolicyError(f"{where}: {key}: {error}") from error


def _keyrings(rule: dict[str, Any], path: str) -> list[bytes]:
    if "keyData" in rule:
        import base64

        try:
            return [base64.b64decode(rule["keyData"], validate=True)]
        except (ValueError, TypeError):
            raise PolicyError(f"{path}: keyData is not base64") from None
    found = []
    for one in rule.get("keyPaths") or [rule["keyPath"]]:
        try:
            found.append(files.read_bytes(str(one)))
        except OSError as error:
            raise PolicyError(
                f"{one}: cannot read the key ring that {path} names: {error.strerror}"
            ) from error
    return found


def _identity_matches(
    rule: dict[str, Any] | None, image: Reference | None, signed: Reference
) -> bool:
    kind = rule["type"] if rule else "matchRepoDigestOrExact"
    if rule and kind == "exactReference":
        return bool(signed.tag or signed.digest) and signed == reference.parse_normalised(
            rule["dockerReference"]
        )
    if rule and kind == "exactRepository":
        return signed.name == reference.parse_normalised(rule["dockerRepository"]).name
    if image is None:
        return False  # a file has no name that a signature could be for
    if rule and kind == "remapIdentity":
        prefix = rule["prefix"]
        if image.name == prefix or image.name.startswith(f"{prefix}/"):
            image = reference.parse(rule["signedPrefix"] + str(image)[len(prefix) :])
    if kind == "matchRepository":
        return signed.name == image.name
    if kind == "matchExact":
        return bool(image.tag) and signed == image
    if image.digest:
        return signed.name == image.name and (signed.tag != "" or signed == image)
    return bool(image.tag) and signed == image
