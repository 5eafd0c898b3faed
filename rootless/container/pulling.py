"""The image of a new container where it is not in the store yet, or where the policy wants a look at the registry."""

from __future__ import annotations

from rootless.container.image_users import tidy_images
from rootless.image import platform, pull
from rootless.image.session import Access, parse_delay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine
    from rootless.container.options import CreateOptions
    from rootless.image.session import Reporter
    from rootless.image.store import Image


def pull_for(engine: Engine, options: CreateOptions, reporter: Reporter | None) -> Image:
    """Pull what `run` and `create` need, with their options for it."""
    wanted = None
    if options.arch or options.os or options.variant:
        wanted = platform.wanted("", options.arch, options.os, options.variant)
    access = Access(
        authfile=options.authfile,
        tls_verify=options.tls_verify,
        retry=3 if options.retry is None else options.retry,
        retry_delay_s=parse_delay(options.retry_delay),
    )
    image = pull.ensure_image(
        engine.images,
        options.image,
        pull.PullOptions(options.pull or pull.MISSING, wanted, access),
        reporter,
    )
    tidy_images(engine)
    return image
