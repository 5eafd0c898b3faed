"""Bring an image from a registry into the store.

    name ─► full names ─► endpoints ─► index ─► manifest ─► policy ─► config ─► layers ∥ ─► record

Layers are fetched by several threads, each of which hashes and stores what it receives while a worker in the user
namespace follows, inflates, hashes and extracts (image/intake.py). Nothing is visible before every digest was right, and
only the name that was asked for is given to the image (security case 38).
"""

from __future__ import annotations

import threading

from rootless import log
from rootless.errors import NotFound, RegistryError, RootlessError, Usage
from rootless.image import platform as platforms
from rootless.image import policy, reference, registries
from rootless.image.blobstream import BlobStream
from rootless.image.intake import IncomingLayer, Intake
from rootless.image.platform import Platform
from rootless.image.reference import Reference
from rootless.image.registries import Endpoint
from rootless.image.registry import Registry
from rootless.image.retry import NotThere
from rootless.image.session import Access, Progress, Reporter, Session
from rootless.image.store import Image, ImageStore, ImageUnknown
from rootless.oci.document import CONFIG_MAX_BYTES
from rootless.oci.manifest import Descriptor, Index, Manifest
from rootless.storage.blobs import BlobError
from rootless.storage.parallel import run_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ALWAYS, MISSING, NEVER, NEWER = "always", "missing", "never", "newer"
# As many as podman opens; unpacking is limited by the processors, see Intake.slots.
_FETCHERS = 6
_BUFFER_BYTES = 1 << 20


class PullOptions:
    """Whether and for which platform to pull."""

    __slots__ = ("access", "platform", "policy")

    def __init__(
        self,
        policy: str = MISSING,
        platform: Platform | None = None,
        access: Access | None = None,
    ) -> None:
        self.policy = policy
        # None: this machine's, and any image that is already here.
        self.platform = platform
        self.access = access or Access()


class Found:
    """A manifest that a registry has under a name."""

    __slots__ = ("digest", "document", "endpoint", "name", "registry")

    def __init__(
        self,
        name: Reference,
        endpoint: Endpoint,
        registry: Registry,
        document: Manifest | Index,
        digest: str,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.registry = registry
        self.document = document
        self.digest = digest


def ensure_image(
    store: ImageStore,
    name: str,
    options: PullOptions | None = None,
    reporter: Reporter | None = None,
) -> Image:
    """Return the image of that name, pulled where the policy wants it; what `run`, `create` and `pull` call."""
    options, reporter = options or PullOptions(), reporter or Reporter()
    try:
        image = _ensure(store, name, options, reporter)
    except RootlessError as error:
        store.tell("pull-error", name, error=error.message)
        raise
    store.tell("pull", name, image.id)
    return image


def _ensure(store: ImageStore, name: str, options: PullOptions, reporter: Reporter) -> Image:
    local = _local(store, name, options)
    if options.policy == NEVER or (options.policy == MISSING and local is not None):
        if local is None:
            raise ImageUnknown(f"{name}: image not known")
        return local
    if local is not None and options.policy in (ALWAYS, NEWER) and reference.is_image_id(name):
        if store.resolve(name) is None:
            return local  # an id names no registry to ask
    with Session(options.access) as session:
        if options.policy == NEWER and local is not None:
            try:
                return _pull_newer(store, name, local, options, reporter, session)
            except RegistryError as error:
                log.debug(f"{name}: kept as it is: {error}")
                return local
        return pull(store, name, options, reporter, session)


def _pull_newer(
    store: ImageStore,
    name: str,
    local: Image,
    options: PullOptions,
    reporter: Reporter,
    session: Session,
) -> Image:
    """The image that is here where the registry still has that one, without a word; else its newer one."""
    transport, rest = reference.split_transport(name)
    if transport not in ("", "docker"):
        return pull(store, name, options, reporter, session)
    quiet = Reporter()
    quiet.choose = reporter.choose
    found, remember = find(rest, session, quiet)
    if found.digest in local.digests:
        return local
    reporter.say(f"Trying to pull {found.name}...")
    image = fetch(store, found, options, reporter, session)
    if remember:
        registries.remember_alias(remember, found.name)
    return image


def _local(store: ImageStore, name: str, options: PullOptions) -> Image | None:
    transport, rest = reference.split_transport(name)
    if transport == "containers-storage":
        name = rest
    elif transport not in ("", "docker"):
        return None
    elif transport:
        name = rest
    image = store.find(name)
    if (
        image is None
        or options.platform is None
        or platforms.matches(image.config, options.platform)
    ):
        return image
    if options.policy == NEVER:
        return image
    log.debug(f"{name}: the image that is here is for another platform than {options.platform}")
    return None


def pull(
    store: ImageStore,
    name: str,
    options: PullOptions,
    reporter: Reporter,
    session: Session,
) -> Image:
    """Pull one image, whatever is here already."""
    transport, rest = reference.split_transport(name)
    if transport == "containers-storage":
        return store.lookup(rest)
    if transport in ("oci", "oci-archive", "docker-archive", "dir"):
        from rootless.image import local

        return local.pull(store, transport, rest, options.platform, session)[0]
    if transport not in ("", "docker"):
        raise Usage(f"{name}: the {transport}: transport is not supported")
    found, remember = find(rest, session, reporter)
    image = fetch(store, found, options, reporter, session)
    if remember:
        registries.remember_alias(remember, found.name)
    return image


def pull_all_tags(
    store: ImageStore, name: str, options: PullOptions, reporter: Reporter, session: Session
) -> list[Image]:
    """Pull every tag of a repository."""
    transport, rest = reference.split_transport(name)
    if transport not in ("", "docker"):
        raise Usage(f"pulling all tags is not supported for {transport} transport")
    ref = reference.parse(rest)
    if not ref.is_name_only:
        raise Usage(f"{name}: --all-tags takes a name without tag and digest")
    resolution = session.config.resolve(ref, reporter.choose)
    if resolution.note:
        reporter.say(resolution.note)
    errors: list[RootlessError] = []
    for candidate in resolution.candidates:
        for endpoint in session.config.endpoints(candidate):
            try:
                tags = session.at(endpoint).tags(endpoint.reference.path)
            except RegistryError as error:
                errors.append(error)
                continue
            images = []
            for tag in tags:
                reference.check_tag(f"{candidate}:{tag}", tag)
                found, _ = find(f"{candidate}:{tag}", session, reporter)
                images.append(fetch(store, found, options, reporter, session))
                store.tell("pull", f"{name}:{tag}", images[-1].id)
            return images
    raise _combined(name, errors)


def find(text: str, session: Session, reporter: Reporter) -> tuple[Found, str]:
    """Find a name's manifest at the first place that has it; also return the short name to remember, if any."""
    ref = reference.parse(text)
    resolution = session.config.resolve(ref, reporter.choose)
    if resolution.note:
        reporter.say(resolution.note)
    errors: list[RootlessError] = []
    for candidate in resolution.candidates:
        full = candidate.with_default_tag()
        reporter.say(f"Trying to pull {full}...")
        try:
            found = find_at(full, session)
        except RegistryError as error:
            error.message = f"initializing source docker://{full}: {error.message}"
            errors.append(error)
            continue
        return found, ref.path if resolution.remember else ""
    raise _combined(text, errors)


def find_at(full: Reference, session: Session) -> Found:
    """Find a full name's manifest at its mirrors or its registry."""
    errors: list[RootlessError] = []
    for endpoint in session.config.endpoints(full):
        registry = session.at(endpoint)
        wanted = endpoint.reference.digest or endpoint.reference.tag
        try:
            document, digest = registry.fetch_manifest(endpoint.reference.path, wanted)
        except RootlessError as error:
            errors.append(error)
            if endpoint.is_mirror:
                log.info(f"mirror {endpoint.reference}: {error}")
            continue
        return Found(full.without_tag(), endpoint, registry, document, digest)
    raise _combined(str(full), errors)


def fetch(
    store: ImageStore, found: Found, options: PullOptions, reporter: Reporter, session: Session
) -> Image:
    """Fetch what a found manifest names and is not here."""
    what, repository, registry = str(found.name), found.endpoint.reference.path, found.registry
    document, digest = found.document, found.digest
    index_data = b""
    if isinstance(document, Index):
        chosen = platforms.select(document, options.platform or platforms.host(), what)
        index_data = document.data
        document, digest = registry.fetch_manifest(repository, chosen.digest, chosen.media_type)
        if len(document.data) != chosen.size:
            raise RegistryError(f"{what}: manifest {digest} has another size than its index says")
        if not isinstance(document, Manifest):
            raise RegistryError(f"{what}: the index leads to another index")
    session.policy.check(
        policy.Candidate(
            "docker",
            policy.docker_scopes(found.name),
            found.name,
            digest,
            lambda: _signatures(found.name, digest, session),
        )
    )
    document.check_image(what)
    reporter.say("Getting image source signatures")
    if document.config.size > CONFIG_MAX_BYTES:
        raise RegistryError(f"{what}: the config exceeds {CONFIG_MAX_BYTES} bytes")
    if store.blobs.has(document.config.digest):
        config = store.blobs.read(document.config.digest)
    else:
        config = registry.fetch_blob(repository, document.config, CONFIG_MAX_BYTES)
    insecure = session.access.tls_verify is False
    intake = Intake(
        store, None, config, document.data, document, what, origins=[(found.name.name, insecure)]
    )
    with intake:
        missing = []
        for layer, descriptor in zip(intake.layers(), document.layers, strict=True):
            if store.layers.has(layer.chain):
                reporter.blob("blob", layer.digest, layer.size).done("skipped: already exists")
            else:
                missing.append((layer, descriptor))
        if missing:
            # The helper is a fork of this process and comes before any thread.
            with store.helper() as helper:
                intake.helper = helper
                _Fetch(registry, repository, reporter).run(missing)
        reporter.blob("config", document.config.digest, document.config.size).done()
        reporter.say("Writing manifest to image destination")
        extra = []
        if index_data:
            extra.append(store.blobs.put(index_data, found.digest))
        image = intake.commit(digests=extra)
        store.tag(image, str(found.name), found.digest)
    if not platforms.matches(image.config, options.platform or platforms.host()):
        theirs = Platform(
            str(image.config.get("os") or "unknown"),
            *platforms.normalise(str(image.config.get("architecture") or "unknown")),
        )
        wanted = options.platform or platforms.host()
        log.warn(f"image platform ({theirs}) does not match the expected platform ({wanted})")
    return image


def _signatures(name: Reference, digest: str, session: Session) -> Iterable[bytes]:
    from rootless.image import signatures

    return signatures.load_all(name, digest, session.transport)


class _BadRemainder(BlobError):
    """A blob that was taken up again is not what its digest says."""


class _Fetch:
    """Fetches layers with several threads."""

    def __init__(self, registry: Registry, repository: str, reporter: Reporter) -> None:
        self._registry = registry
        self._repository = repository
        self._reporter = reporter
        self._lock = threading.Lock()
        self._streams: set[BlobStream] = set()
        self._stopped = False

    def run(self, layers: list[tuple[IncomingLayer, Descriptor]]) -> None:
        # The largest first: started last, it would run on alone at the end.
        order = sorted(layers, key=lambda one: -one[0].size)
        try:
            run_all(order, lambda one: self._one(*one), _FETCHERS, self._stop)
        finally:
            self._reporter.stop()

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            streams = list(self._streams)
        for stream in streams:
            stream.cancel()

    def _one(self, layer: IncomingLayer, descriptor: Descriptor) -> None:
        progress = self._reporter.blob("blob", layer.digest, layer.size)
        try:
            self._bring(layer, descriptor, progress)
        except _BadRemainder as error:
            # A crash may have left other bytes than were sent; they are gone now.
            log.info(f"{error}; fetching it whole")
            self._bring(layer, descriptor, progress)

    def _bring(self, layer: IncomingLayer, descriptor: Descriptor, progress: Progress) -> None:
        sink = layer.open()
        if sink is None:
            progress.done("skipped: already exists")
            return
        resumed = sink.offset
        with sink:
            if resumed:
                log.info(f"blob {layer.digest}: going on after {resumed} bytes")
                progress.advance(resumed)
            if resumed < layer.size or not layer.size:
                self._copy(descriptor, resumed, sink.write, progress)
            try:
                sink.finish()
            except BlobError as error:
                if resumed:
                    raise _BadRemainder(error.message) from error
                raise
        progress.done()

    def _copy(
        self,
        descriptor: Descriptor,
        offset: int,
        write: Callable[[memoryview], None],
        progress: Progress,
    ) -> None:
        stream = self._registry.open_blob(self._repository, descriptor, offset)
        with self._lock:
            self._streams.add(stream)
            if self._stopped:
                stream.cancel()
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        try:
            while count := stream.readinto(buffer):
                write(buffer[:count])
                progress.advance(count)
        finally:
            with self._lock:
                self._streams.discard(stream)
            stream.close()


def _combined(name: str, errors: list[RootlessError]) -> RootlessError:
    if len(errors) == 1:
        return errors[0]
    if not errors:
        return NotFound(f"{name}: no registry to ask")
    lines = "".join(f"\n\t* {error.message}" for error in errors)
    kind = NotThere if all(isinstance(one, NotThere) for one in errors) else RegistryError
    return kind(f"{len(errors)} errors occurred while pulling:{lines}", hint=errors[-1].hint)
