"""`rootless image sign` and `rootless image trust`: who vouches for images, and who must."""

from __future__ import annotations

from rootless.cli import registry_options as shared
from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation

_TYPES = {"accept": "insecureAcceptAnything", "reject": "reject", "signedBy": "signedBy"}
_SHOWN = {
    "insecureAcceptAnything": "accept",
    "reject": "reject",
    "signedBy": "signed",
    "sigstoreSigned": "sigstoreSigned",
}


def sign(inv: Invocation) -> int:
    from rootless.image import platform, pull, reference, signatures
    from rootless.image.session import Reporter, Session
    from rootless.oci.manifest import Index

    if not inv.text("sign-by"):
        raise Usage("no identity provided", hint="give --sign-by KEY")
    with Session(shared.access(inv)) as session:
        for name in inv.args:
            transport, rest = reference.split_transport(name)
            if transport not in ("", "docker"):
                raise Usage(f"{name}: only images in registries can be signed")
            ref = reference.parse_normalised(rest).with_default_tag()
            found, _ = pull.find(str(ref), session, Reporter())
            digests = [found.digest]
            if isinstance(found.document, Index):
                # What a pull looks for is the signature of the one manifest that it takes.
                if inv.flag("all"):
                    digests += [one.digest for one in found.document.manifests]
                else:
                    digests.append(platform.select(found.document, platform.host(), name).digest)
            for digest in dict.fromkeys(digests):
                signature = signatures.sign(ref, digest, inv.text("sign-by"))
                signatures.store(ref, digest, signature, inv.text("directory"))
    return 0


def trust_set(inv: Invocation) -> int:
    import json
    import os

    from rootless import files
    from rootless.image import policy

    scope, kind = inv.args[0], inv.text("type")
    if kind == "sigstoreSigned":
        raise Usage(
            "--type sigstoreSigned: sigstore signatures cannot be verified here",
            hint="use signedBy, accept or reject",
        )
    if kind not in _TYPES:
        raise Usage(f"--type: {kind!r} is none of accept, reject, signedBy")
    keys = inv.words("pubkeysfile")
    if kind == "signedBy" and not keys:
        raise Usage("at least one public key must be defined for type 'signedBy'")
    if kind != "signedBy" and keys:
        raise Usage(f"--pubkeysfile: type {kind} takes no keys")
    rules: list[dict[str, Any]] = [{"type": _TYPES[kind]}]
    if kind == "signedBy":
        for key in keys:
            if not os.path.isfile(key):
                raise Usage(f"--pubkeysfile: {key}: no such file")
        rules = [
            {"type": "signedBy", "keyType": "GPGKeys", "keyPath": os.path.abspath(key)}
            for key in keys
        ]
    # The user's own file takes the place of the system's: it starts as a copy of it.
    document = policy.load().document
    if scope == "default":
        document["default"] = rules
    else:
        document.setdefault("transports", {}).setdefault("docker", {})[scope] = rules
    policy.check_document(document, "the new policy")
    path = policy.user_path()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    files.write_atomic(path, (json.dumps(document, indent=4) + "\n").encode(), 0o644)
    return 0


def trust_show(inv: Invocation) -> int:
    from rootless.cli import listing, output
    from rootless.image import policy

    current = policy.load()
    if inv.flag("raw"):
        output.line(output.to_json(current.document))
        return 0
    rows = _rows(current.document)
    if inv.args:
        table = current.document.get("transports", {}).get("docker", {})
        scope = next((one for one in (*_scopes(inv.args[0]), "") if one in table), "default")
        rows = [row for row in rows if row["repo_name"] == scope]
    if inv.flag("json"):
        output.line(output.to_json(rows, 2))
        return 0
    shown = [
        {
            "Transport": row["transport"],
            "RepoName": row["repo_name"],
            "Type": row["type"],
            "GPGId": row.get("gpg_id", ""),
            "SignatureStore": row.get("sigstore", ""),
        }
        for row in rows
    ]
    headings = {
        "Transport": "TRANSPORT",
        "RepoName": "NAME",
        "Type": "TYPE",
        "GPGId": "ID",
        "SignatureStore": "STORE",
    }
    form = "table {{.Transport}}\t{{.RepoName}}\t{{.Type}}\t{{.GPGId}}\t{{.SignatureStore}}"
    output.write(listing.render("trust", shown, form, headings, noheading=inv.flag("noheading")))
    return 0


def _scopes(text: str) -> list[str]:
    """Return the scopes of a registry, a repository or an image."""
    found = [text]
    while "/" in text:
        text = text.rpartition("/")[0]
        found.append(text)
    return found


def _rows(document: dict[str, Any]) -> list[dict[str, str]]:
    rows = []
    for rule in document["default"]:
        rows.append(_row("all", "* (default)", "default", rule, ""))
    for transport, table in sorted(document.get("transports", {}).items()):
        for scope, rules in sorted(table.items()):
            for rule in rules:
                name = "repository" if transport == "docker" else transport
                rows.append(_row(name, scope, scope, rule, scope if transport == "docker" else ""))
    return rows


def _row(transport: str, name: str, repo: str, rule: dict[str, Any], scope: str) -> dict[str, str]:
    row = {"transport": transport, "name": name, "repo_name": repo, "type": _SHOWN[rule["type"]]}
    if rule["type"] == "signedBy":
        row["gpg_id"] = ", ".join(_identities(rule)) or "<Unknown>"
        if scope:
            row["sigstore"] = _store(scope)
    return row


def _store(scope: str) -> str:
    from rootless.errors import RootlessError
    from rootless.image import reference, signatures

    try:
        ref = reference.parse(scope if "/" in scope else f"{scope}/x")
        return signatures.lookaside(ref)
    except RootlessError:
        return ""


def _identities(rule: dict[str, Any]) -> list[str]:
    """Ask gpg whose keys a rule names."""
    import subprocess

    found = []
    for path in rule.get("keyPaths") or [rule.get("keyPath", "")]:
        if not path:
            continue
        command = ["gpg", "--batch", "--with-colons", "--show-keys", path]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return []
        for line in done.stdout.splitlines():
            fields = line.split(":")
            if fields[0] == "uid" and len(fields) > 9:
                word = fields[9]
                found.append(word.partition("<")[2].partition(">")[0] or word)
    return found


SIGN = Command(
    "[options] IMAGE [IMAGE...]",
    sign,
    (
        Option("all", "bool", "Sign all images of a list", short="a"),
        shared.AUTHFILE,
        shared.CERT_DIR,
        Option("directory", "str", "Folder for the signatures", short="d"),
        Option("sign-by", "str", "Key to sign with"),
    ),
    args=(1, None),
    description="Signs images that are in a registry with gpg; the signatures go where registries.d says.",
    examples=("image sign --sign-by me@example.org docker://registry.example.org/app:1",),
)
TRUST_SET = Command(
    "[options] REGISTRY",
    trust_set,
    (
        Option("pubkeysfile", "list", "File of public keys, for type signedBy", short="f"),
        Option("type", "str", "accept, reject or signedBy", short="t", default="signedBy"),
    ),
    args=(1, 1),
    description="Sets which images of a registry or repository may be used, in the user's policy.json.",
    examples=(
        "image trust set -t reject default",
        "image trust set -t accept registry.example.org",
    ),
)
TRUST_SHOW = Command(
    "[options] [REGISTRY]",
    trust_show,
    (
        Option("json", "bool", "Print as JSON", short="j"),
        Option("noheading", "bool", "Print no headings", short="n"),
        Option("raw", "bool", "Print the policy file"),
    ),
    args=(0, 1),
    description="Shows which images may be used.",
)
