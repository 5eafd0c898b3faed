"""`rootless push`: send an image to a registry, an archive or a folder."""

from __future__ import annotations

from rootless.cli import registry_options as shared
from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.image.push import PushOptions

_NO_SIGSTORE = "sigstore signatures are not supported; --sign-by makes a signature with gpg"
_NO_ENCRYPTION = "encrypted images are not supported"

COMPRESSION = (
    Option(
        "compression-format", "str", "Pack layers in this way", metavar="gzip|zstd|zstd:chunked"
    ),
    Option("compression-level", "int", "How hard to pack: 1 to 9, for zstd to 20"),
)
FORCE_COMPRESSION = Option(
    "force-compression", "bool", "Pack layers anew that are packed in another way"
)
DIGESTFILE = Option("digestfile", "str", "Write the digest of the pushed image to this file")
REMOVE_SIGNATURES = Option("remove-signatures", "bool", "Send no signatures of the image")
SIGNING = (
    Option("sign-by", "str", "Sign the image with this gpg key", metavar="key"),
    Option("sign-by-sigstore", "str", "", metavar="PATH", hidden=True, refused=_NO_SIGSTORE),
    Option(
        "sign-by-sigstore-private-key",
        "str",
        "",
        metavar="PATH",
        hidden=True,
        refused=_NO_SIGSTORE,
    ),
    Option("sign-passphrase-file", "str", "File with the passphrase of the key", metavar="PATH"),
)
FORMAT = Option("format", "str", "Kind of the manifest: oci or v2s2", short="f")


def options_of(inv: Invocation) -> PushOptions:
    """Read what becomes of an image on its way."""
    from rootless.container.engine import open_engine
    from rootless.image.push import PushOptions

    config = open_engine(inv.globals).config
    kind = inv.text("compression-format")
    level: int | None = inv.number("compression-level") if inv.given("compression-level") else None
    limit = 20 if kind.startswith("zstd") else 9
    if level is not None and not 1 <= level <= limit:
        raise Usage(f"--compression-level: {level} is not between 1 and {limit}")
    force = inv.flag("force-compression")
    if not inv.given("compression-format"):
        kind = config.text("engine", "compression_format")
        if kind == "gzip":
            kind = ""  # what is packed already is left as it is
        elif kind == "zstd:chunked":
            kind = "zstd"  # a setting for all engines of the host, which other engines read as well
    elif not inv.given("force-compression"):
        force = True
    return PushOptions(
        format=inv.text("format"),
        compression=kind,
        level=level,
        force_compression=force,
        compress_dir=inv.options.get("compress", False),
        sign_by=inv.text("sign-by"),
        passphrase_file=inv.text("sign-passphrase-file"),
    )


def write_digest(inv: Invocation, digest: str) -> None:
    path = inv.text("digestfile")
    if path:
        with open(path, "w", encoding="ascii") as file:
            file.write(digest)


def main(inv: Invocation) -> int:
    from rootless.image import listpush, lists, push, reference
    from rootless.image.session import Session

    store = shared.store(inv)
    name = inv.args[0]
    if reference.split_transport(name)[0] == "containers-storage":
        name = reference.split_transport(name)[1]
    options = options_of(inv)
    destination = inv.args[1] if len(inv.args) > 1 else ""
    if inv.flag("compress") and reference.split_transport(destination)[0] != "dir":
        raise Usage("--compress can be set only when destination type is 'dir'")
    if store.resolve(name) is None and (known := lists.find(store, name)) is not None:
        reporter = shared.reporter(quiet=inv.flag("quiet"))
        with Session(shared.access(inv)) as session:
            digest = listpush.push(known, destination or known.name, options, reporter, session)
        write_digest(inv, digest)
        return 0
    image = store.lookup(name)
    if not destination:
        destination = push.default_destination(store, name, image)
    reporter = shared.reporter(quiet=inv.flag("quiet"))
    with Session(shared.access(inv)) as session:
        digest = push.push(store, image, name, destination, options, reporter, session)
    write_digest(inv, digest)
    return 0


COMMAND = Command(
    "[options] IMAGE [DESTINATION]",
    main,
    (
        shared.AUTHFILE,
        shared.CERT_DIR,
        Option("compress", "bool", "Pack the layers of a dir: destination"),
        *COMPRESSION,
        shared.CREDS,
        DIGESTFILE,
        shared.CONTENT_TRUST,
        Option("encrypt-layer", "ints", "", hidden=True, refused=_NO_ENCRYPTION),
        Option("encryption-key", "list", "", hidden=True, refused=_NO_ENCRYPTION),
        FORCE_COMPRESSION,
        FORMAT,
        shared.QUIET,
        REMOVE_SIGNATURES,
        shared.RETRY,
        shared.RETRY_DELAY,
        *SIGNING,
        shared.TLS_VERIFY,
    ),
    args=(1, 2),
    description="Sends an image to a registry, or to an oci:, oci-archive:, docker-archive: or dir: destination.",
    examples=(
        "push registry.example.org/team/app:1",
        "push app registry.example.org/team/app:2",
        "push app oci-archive:app.tar:2",
    ),
    complete="images",
)
