"""`rootless manifest`: make, change and push manifest lists."""

from __future__ import annotations

from rootless.cli import push as pushing
from rootless.cli import registry_options as shared
from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.image.listadd import Artifact, Entry
    from rootless.image.lists import ManifestList

_ENTRY = (
    Option("annotation", "list", "Annotate the entry", metavar="key=value"),
    Option("arch", "str", "Architecture of the entry", metavar="architecture"),
    Option("features", "csv", "Features that the entry needs"),
    Option("os", "str", "Operating system of the entry", metavar="OS"),
    Option("os-version", "str", "Version of the entry's operating system", metavar="version"),
    Option("variant", "str", "Variant of the entry's architecture"),
)
_CREDS = Option("creds", "str", "Credentials for the registry", metavar="[username[:password]]")


def _pairs(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise Usage(f"--annotation: {word!r} is not key=value")
        found[key] = value
    return found


def _entry(inv: Invocation, annotations: bool = True) -> Entry:
    from rootless.image.listadd import Entry

    return Entry(
        arch=inv.text("arch"),
        os_name=inv.text("os"),
        variant=inv.text("variant"),
        os_version=inv.text("os-version"),
        os_features=inv.options.get("os-features"),
        features=inv.words("features"),
        annotations=_pairs(inv.words("annotation")) if annotations else None,
    )


def create(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.image import listadd, lists
    from rootless.image.session import Session

    store = shared.store(inv)
    annotations = _pairs(inv.words("annotation"))
    with lists.changing(store):
        made = lists.create(store, inv.args[0], amend=inv.flag("amend"))
        made.index.setdefault("annotations", {}).update(annotations)
        if not made.index["annotations"]:
            del made.index["annotations"]
        with Session(shared.access(inv)) as session:
            for name in inv.args[1:]:
                listadd.add(made, name, session, listadd.Entry(), everything=inv.flag("all"))
        made.save()
    output.line(made.id)
    return 0


def add(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.image import listadd, lists
    from rootless.image.session import Session

    store, entry = shared.store(inv), _entry(inv)
    artifact_words = [
        name for name in inv.options if name.startswith("artifact-") and inv.given(name)
    ]
    if artifact_words and not inv.flag("artifact"):
        raise Usage(f"--{artifact_words[0]} needs --artifact")
    with lists.changing(store), Session(shared.access(inv)) as session:
        found = lists.lookup(store, inv.args[0])
        if inv.flag("artifact"):
            listadd.add_artifact(found, inv.args[1:], session, entry, _artifact(inv))
        else:
            for name in inv.args[1:]:
                listadd.add(found, name, session, entry, everything=inv.flag("all"))
        found.save()
    output.line(found.id)
    return 0


def _artifact(inv: Invocation) -> Artifact:
    from rootless.image.listadd import Artifact

    return Artifact(
        type=inv.text("artifact-type"),
        config_path=inv.text("artifact-config"),
        config_type=inv.text("artifact-config-type"),
        layer_type=inv.text("artifact-layer-type"),
        subject=inv.text("artifact-subject"),
        titles=not inv.flag("artifact-exclude-titles"),
    )


def annotate(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.image import lists

    of_entry = ("arch", "os", "variant", "features", "os-features", "os-version")
    if inv.flag("index") and any(inv.given(name) for name in of_entry):
        raise Usage("--index annotates the list itself: it goes with --annotation and --subject")
    store = shared.store(inv)
    with lists.changing(store):
        found = lists.lookup(store, inv.args[0])
        _annotate(inv, found)
        found.save()
    output.line(found.id)
    return 0


def _annotate(inv: Invocation, found: ManifestList) -> None:
    from rootless.image import listadd
    from rootless.image.session import Session

    if inv.flag("index"):
        index = found.index
        index["annotations"] = {
            **(index.get("annotations") or {}),
            **_pairs(inv.words("annotation")),
        }
    else:
        if len(inv.args) < 2:
            raise Usage("name the entry to annotate, or give --index")
        digest = listadd.resolve_entry(found, inv.args[1])
        _entry(inv).apply(found.entry(digest))
    if inv.text("subject"):
        with Session() as session:
            listadd.set_subject(found, inv.text("subject"), session)


def exists(inv: Invocation) -> int:
    from rootless.errors import NotFound
    from rootless.image import lists

    try:
        lists.lookup(shared.store(inv), inv.args[0])
    except NotFound:
        return 1
    return 0


def inspect(inv: Invocation) -> int:
    from rootless import log
    from rootless.cli import output
    from rootless.image import listadd, lists
    from rootless.image.session import Session

    found = lists.find(shared.store(inv), inv.args[0])
    if found is not None:
        output.line(output.to_json(found.index))
        return 0
    with Session(shared.access(inv)) as session:
        document, is_index = listadd.inspect_remote(inv.args[0], session)
    if not is_index:
        log.warn(f"{inv.args[0]}: is a single image, not a manifest list")
    output.line(output.to_json(document))
    return 0


def push(inv: Invocation) -> int:
    from rootless.image import listpush, lists
    from rootless.image.session import Session

    found = lists.lookup(shared.store(inv), inv.args[0])
    options = pushing.options_of(inv)
    compressions = inv.words("add-compression")
    for one in compressions:
        if one not in ("gzip", "zstd"):
            raise Usage(f"--add-compression: {one!r} is neither gzip nor zstd")
    reporter = shared.reporter(quiet=inv.flag("quiet"))
    with Session(shared.access(inv)) as session:
        digest = listpush.push(
            found,
            inv.args[1] if len(inv.args) > 1 else found.name,
            options,
            reporter,
            session,
            everything=inv.flag("all"),
            add_compression=compressions,
        )
    pushing.write_digest(inv, digest)
    if inv.flag("rm"):
        from rootless.image.remove import remove_list

        remove_list(found)
    return 0


def rm(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.errors import NotFound
    from rootless.image import lists
    from rootless.image.remove import remove_list

    store = shared.store(inv)
    failed: RootlessError | None = None
    for name in inv.args:
        try:
            found = lists.lookup(store, name)
        except NotFound as error:
            if not inv.flag("ignore"):
                failed = error
            continue
        done = remove_list(found)
        for one in done.untagged:
            output.line(f"Untagged: {one}")
        output.line(f"Deleted: {found.id}")
    if failed is not None:
        failed.exit_code = 1
        raise failed
    return 0


def remove(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.image import lists
    from rootless.oci.digest import is_digest

    store = shared.store(inv)
    with lists.changing(store):
        found = lists.lookup(store, inv.args[0])
        if not is_digest(inv.args[1]):
            raise Usage(f'invalid image digest "{inv.args[1]}"')
        found.remove(inv.args[1])
        found.save()
    output.line(found.id)
    return 0


CREATE = Command(
    "[options] LIST [IMAGE...]",
    create,
    (
        Option("all", "bool", "Add all images of a list"),
        Option("amend", "bool", "Go on with a list that is there", short="a"),
        Option("annotation", "list", "Annotate the list", metavar="key=value"),
        shared.TLS_VERIFY,
    ),
    args=(1, None),
    description="Makes a manifest list under a local name, of nothing or of images.",
    examples=("manifest create mylist:v1", "manifest create mylist:v1 app:amd64 app:arm64"),
)
ADD = Command(
    "[options] LIST IMAGEORARTIFACT [IMAGEORARTIFACT...]",
    add,
    (
        Option("all", "bool", "Add all images of a list"),
        *_ENTRY[:2],
        Option("artifact", "bool", "The arguments are files that make an artifact"),
        Option("artifact-config", "str", "File that becomes the artifact's config", metavar="path"),
        Option("artifact-config-type", "str", "Media type of the config"),
        Option("artifact-exclude-titles", "bool", "Do not note the files' names"),
        Option("artifact-layer-type", "str", "Media type of the files"),
        Option("artifact-subject", "str", "Image that the artifact belongs to"),
        Option("artifact-type", "str", "Type of the artifact"),
        shared.AUTHFILE,
        shared.CERT_DIR,
        _CREDS,
        *_ENTRY[2:5],
        shared.TLS_VERIFY,
        _ENTRY[5],
    ),
    args=(2, None),
    description="Adds images, which are here or in a registry, or an artifact made of files, to a manifest list.",
    examples=("manifest add mylist:v1 app:arm64", "manifest add --artifact mylist:v1 sbom.json"),
)
ANNOTATE = Command(
    "[options] LIST IMAGEORARTIFACT",
    annotate,
    (
        *_ENTRY[:3],
        Option("index", "bool", "Annotate the list itself"),
        _ENTRY[3],
        Option("os-features", "csv", "Features of the operating system that the entry needs"),
        _ENTRY[4],
        Option("subject", "str", "Image that the list belongs to"),
        _ENTRY[5],
    ),
    args=(1, 2),
    description="Changes what a manifest list says of one of its images, or of itself.",
    examples=("manifest annotate --arch arm64 mylist:v1 sha256:59eec8…",),
)
EXISTS = Command(
    "MANIFEST",
    exists,
    args=(1, 1),
    description="Tells by the exit code whether there is such a manifest list: 0 if so, else 1.",
)
INSPECT = Command(
    "[options] IMAGE",
    inspect,
    (shared.AUTHFILE, shared.TLS_VERIFY),
    args=(1, 1),
    description="Shows a manifest list that is here or in a registry.",
)
PUSH = Command(
    "[options] LIST DESTINATION",
    push,
    (
        Option("add-compression", "csv", "Push the images in this packing as well"),
        Option("all", "bool", "Push the images of the list", default=True),
        shared.AUTHFILE,
        shared.CERT_DIR,
        *pushing.COMPRESSION,
        _CREDS,
        pushing.DIGESTFILE,
        pushing.FORCE_COMPRESSION,
        pushing.FORMAT,
        shared.QUIET,
        pushing.REMOVE_SIGNATURES,
        Option("rm", "bool", "Remove the list after it was pushed"),
        *pushing.SIGNING,
        shared.TLS_VERIFY,
    ),
    args=(1, 2),
    description="Sends a manifest list and its images to a registry.",
    examples=("manifest push mylist:v1 docker://registry.example.org/mylist:v1",),
)
REMOVE = Command(
    "LIST DIGEST",
    remove,
    args=(2, 2),
    description="Takes an entry out of a manifest list.",
)
RM = Command(
    "[options] LIST [LIST...]",
    rm,
    (Option("ignore", "bool", "A list that does not exist is no error", short="i"),),
    args=(1, None),
    description="Removes manifest lists; the images stay.",
)
