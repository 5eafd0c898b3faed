"""`rootless pull`: bring images from registries."""

from __future__ import annotations

from rootless.cli import registry_options as shared
from rootless.cli.table import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

PLATFORM = (
    Option("arch", "str", "Take the image for this architecture", metavar="ARCH"),
    Option("os", "str", "Take the image for this operating system", metavar="OS"),
    Option("platform", "str", "Take the image for this platform", metavar="os/arch[/variant]"),
    Option("variant", "str", "Take the image for this variant of the architecture"),
)


def main(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.container.image_users import tidy_images
    from rootless.errors import RootlessError, Usage
    from rootless.image import platform, pull
    from rootless.image.session import Session

    if inv.flag("all-tags") and inv.given("policy") and inv.text("policy") != pull.ALWAYS:
        raise Usage("--all-tags pulls every tag; it goes with --policy always only")
    wanted = None
    if any(inv.text(name) for name in ("platform", "arch", "os", "variant")):
        wanted = platform.wanted(
            inv.text("platform"), inv.text("arch"), inv.text("os"), inv.text("variant")
        )
    options = pull.PullOptions(inv.text("policy"), wanted, shared.access(inv))
    engine = open_engine(inv.globals)
    store = engine.images
    reporter = shared.reporter(quiet=inv.flag("quiet"))
    failed: list[RootlessError] = []
    for name in inv.args:
        try:
            if inv.flag("all-tags"):
                with Session(options.access) as session:
                    images = pull.pull_all_tags(store, name, options, reporter, session)
            else:
                images = [pull.ensure_image(store, name, options, reporter)]
        except RootlessError as error:
            failed.append(error)
            continue
        for identity in dict.fromkeys(image.id for image in images):
            output.line(identity)
    for one in failed[:-1]:
        shared.say_error(one)
    if failed:
        raise failed[-1]
    tidy_images(engine)
    return 0


COMMAND = Command(
    "[options] IMAGE [IMAGE...]",
    main,
    (
        Option("all-tags", "bool", "Pull every tag of the repository", short="a"),
        *PLATFORM[:1],
        shared.AUTHFILE,
        shared.CERT_DIR,
        shared.CREDS,
        Option(
            "decryption-key",
            "list",
            "Key for encrypted layers",
            hidden=True,
            refused="encrypted images are not supported",
        ),
        shared.CONTENT_TRUST,
        *PLATFORM[1:3],
        Option(
            "policy",
            "str",
            "When to pull: always, missing, never or newer",
            default="always",
            choices=("always", "missing", "never", "newer"),
        ),
        shared.QUIET,
        shared.RETRY,
        shared.RETRY_DELAY,
        shared.TLS_VERIFY,
        *PLATFORM[3:],
    ),
    args=(1, None),
    description="Pulls images from registries, or from oci:, oci-archive:, docker-archive: and dir: sources.",
    examples=(
        "pull debian",
        "pull --platform linux/arm64 docker.io/library/alpine:3",
        "pull oci-archive:image.tar",
    ),
)
