"""`rootless save`: write images into an archive or a folder."""

from __future__ import annotations

from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.image.save import Sink, Wanted
    from rootless.image.store import ImageStore

FORMATS = ("oci-dir", "oci-archive", "docker-dir", "docker-archive")


def main(inv: Invocation) -> int:
    import os

    from rootless.container.engine import open_engine
    from rootless.image import save

    kind, path = inv.text("format"), inv.text("output")
    several = inv.flag("multi-image-archive") or len(inv.args) == 1
    if not path and os.isatty(1):
        raise RootlessError("refusing to save to terminal. Use -o flag or redirect")
    engine = open_engine(inv.globals)
    several = several or engine.config.flag("engine", "multi_image_archive")
    wanted = _wanted(engine.images, inv.args, several)
    made = ""
    sink: Sink
    if kind.endswith("-dir"):
        if not path:
            raise RootlessError(f"saving to {kind} requires an output directory: use --output")
        if os.path.isdir(path) and os.listdir(path):
            _add_to_folder(inv, engine.images, wanted)
            return 0
        sink = save.FolderSink(path)
    elif not path:
        sink = save.TarSink(1)
    else:
        if kind == "docker-archive" and os.path.isfile(path) and os.path.getsize(path):
            raise RootlessError(f"{kind} doesn't support modifying existing images")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        sink, made = save.TarSink(fd), path
    try:
        save.save(
            engine.images,
            wanted,
            kind,
            sink,
            uncompressed=inv.flag("uncompressed"),
            compress_dir=inv.flag("compress"),
        )
    except BaseException:
        if isinstance(sink, save.FolderSink):
            sink.discard()
        elif made and os.path.isfile(made) and not os.path.islink(made):
            os.unlink(made)
        raise
    for one in wanted:
        engine.images.tell("save", path, one.image.id)
    return 0


def _wanted(store: ImageStore, texts: list[str], several: bool) -> list[Wanted]:
    """The images; where only the first word is one, the others are further names for it."""
    from rootless.image.reference import parse
    from rootless.image.save import Wanted

    found: dict[str, Wanted] = {}
    for text in texts if several else texts[:1]:
        image = store.lookup(text)
        name = store.resolve(text)
        one = found.setdefault(image.id, Wanted(image, []))
        if name is not None and name not in one.names and "@" not in name:
            one.names.append(name)
    for text in [] if several else texts[1:]:
        ref = parse(text)
        name = str((ref if ref.domain else ref.with_domain("localhost")).with_default_tag())
        first = next(iter(found.values()))
        if name not in first.names:
            first.names.append(name)
    return list(found.values())


def _add_to_folder(inv: Invocation, store: ImageStore, wanted: list[Wanted]) -> None:
    """Into an OCI layout that is there already; a docker-dir is written anew."""
    from rootless.image.push import PushOptions, push
    from rootless.image.session import Access, Reporter, Session

    if inv.flag("uncompressed"):
        raise RootlessError(
            f"--uncompressed: {inv.text('output')} is there already", hint="name a new folder"
        )
    transport = inv.text("format").removeprefix("docker-").removesuffix("-dir")
    options = PushOptions(compress_dir=inv.flag("compress"))
    with Session(Access()) as session:
        for one in wanted:
            for name in one.names or [""]:
                place = f"{transport}:{inv.text('output')}"
                if transport == "oci" and name:
                    place += f":{name}"
                push(store, one.image, name or one.image.id, place, options, Reporter(), session)


def check(inv: Invocation) -> None:
    if not inv.args:
        raise Usage("need at least 1 argument")
    kind = inv.text("format")
    if inv.given("compress") and kind != "docker-dir":
        raise Usage("--compress can only be set when --format is 'docker-dir'")
    if kind not in FORMATS:
        raise Usage(f"format value must be one of {' '.join(FORMATS)}")
    if inv.flag("uncompressed") and kind == "docker-dir":
        raise Usage(
            "--uncompressed: a docker-dir keeps layers as they are", hint="use --format oci-dir"
        )


COMMAND = Command(
    "[options] IMAGE [IMAGE...]",
    main,
    (
        Option("compress", "bool", "Compress the layers of a docker-dir"),
        Option(
            "format",
            "str",
            "Format: " + ", ".join(FORMATS),
            default="docker-archive",
        ),
        Option(
            "multi-image-archive", "bool", "Take every further name for an image to save", short="m"
        ),
        Option("output", "str", "Write to this file or folder", short="o", metavar="path"),
        Option("quiet", "bool", "Show no progress", short="q"),
        Option("uncompressed", "bool", "Leave the layers uncompressed"),
    ),
    args=check,
    description="Writes images into an archive that load, podman and docker read.",
    examples=("save -o debian.tar debian", "save --format oci-archive debian > debian.oci.tar"),
    complete="images",
)
