"""From a container's record to what its monitor needs for one start: facts of the host, the spec, the root.

This is gathered anew at each start, so that nothing of the host (addresses, paths, ids) is remembered that can be
worked out again.
"""

from __future__ import annotations

import os
import resource
import stat

from rootless import log, network
from rootless import quickjson as json
from rootless.container import cgroup_manager, roots
from rootless.container.defaults import surroundings
from rootless.container.options import CreateOptions
from rootless.container.spec import HostFacts, hostname, make_spec
from rootless.data import data_path
from rootless.errors import NotFound, RootlessError
from rootless.files import make_private_dir, read_bytes, write_json
from rootless.linux.fs import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from rootless.linux.idmap import IdMap
from rootless.runtime import cgroup_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.joining import Joined
    from rootless.container.service import Service
    from rootless.runtime.rootfs import Root

_INIT_PROGRAMS = (
    "/usr/bin/catatonit",
    "/usr/libexec/podman/catatonit",
    "/usr/lib/podman/catatonit",
    "/usr/bin/tini-static",
    "/usr/bin/docker-init",
    "/usr/bin/tini",
)


class Preparation:
    """One start, ready to be forked."""

    __slots__ = (
        "options",
        "spec",
        "root",
        "network",
        "link",
        "cgroup",
        "preserve_fds",
        "descriptors",
        "outer",
    )

    def __init__(self, options: CreateOptions, spec: dict[str, Any], root: Root) -> None:
        self.options = options
        self.spec = spec
        self.root = root
        self.network: Callable[[int, int, int], Any] | None = None
        self.link: network.Link | None = None
        self.cgroup: Any = None
        self.preserve_fds = [*range(3, 3 + options.preserve_fds), *options.preserve_fd]
        self.descriptors: list[int] = []
        #: A user namespace in which the container's must be made, and its ids.
        self.outer: tuple[int, IdMap] | None = None

    def close(self) -> None:
        """Let go in the command of what only the monitor needs."""
        for fd in self.descriptors:
            os.close(fd)
        if self.link is not None:
            self.link.close()


def prepare(engine: Engine, record: dict[str, Any], service: Service | None = None) -> Preparation:
    """Gather the facts, make the files that are bound into the container, and the spec."""
    options = CreateOptions.from_json(record["options"])
    identity = record["id"]
    folder = engine.containers.path(identity)
    run_folder = engine.containers.run_folder(identity)
    make_private_dir(run_folder)
    image, config = image_of(engine, record)
    host = _facts(engine, record, options)
    if image is not None and image.is_host:
        from rootless.image.host import mounts

        host.image_mounts = mounts()
    joined = _join(engine, options, own_ids=bool(record.get("idmap")))
    if joined is not None:
        host.namespaces = joined.paths
        host.shm_fd = joined.shm
        if "user" in joined.paths:
            host.uids, host.gids = joined.idmap.uids, joined.idmap.gids
    host.files = make_files(run_folder, record, options)
    link, files = network.for_start(
        engine.paths,
        engine.config,
        record,
        options,
        run_folder,
        lambda: image_file(engine, image, "etc/hosts"),
    )
    host.files.update(files)
    if link.driver == "slirp4netns" and not any(inside == 0 for inside, _, _ in host.uids):
        raise RootlessError(
            "--network slirp4netns: it has to be root in the container's user namespace, where uid 0 is not mapped",
            hint="use --network pasta, or an id map with uid 0 (another --userns, or subordinate ids)",
        )
    if not options.no_hostname and options.uts != "host":
        host.files["/etc/hostname"] = network.write_in_place(
            run_folder, "hostname", f"{hostname(options, host)}\n"
        )
    spec = _spec(engine, options, config, host, service)
    preparation = Preparation(
        options, spec, roots.root_of(engine, record, lowers_of(engine, image, options), options)
    )
    if service is not None:
        preparation.preserve_fds = sorted({*preparation.preserve_fds, *service.descriptors()})
        if service.notifier is not None and options.cgroups in ("", "enabled"):
            # systemd hears the processes of the unit's own cgroup only.
            options.cgroups = "no-conmon"
    preparation.cgroup = plan_cgroup(engine, identity, options, spec)
    if link.plan.own_netns and link.plan.mode != "none":
        preparation.network = link.start
        preparation.link = link
    if joined is not None:
        preparation.descriptors = joined.descriptors
        preparation.outer = joined.outer
        for key, ranges in (("uidMappings", host.uids), ("gidMappings", host.gids)):
            spec["linux"][key] = [
                {"containerID": inside, "hostID": outside, "size": size}
                for inside, outside, size in ranges
            ]
    write_json(f"{folder}/config.json", spec)
    return preparation


def _facts(engine: Engine, record: dict[str, Any], options: CreateOptions) -> HostFacts:
    """What this host and this container's record give, but for namespaces of others and files."""
    identity = record["id"]
    folder = engine.containers.path(identity)
    host = HostFacts(identity, rootfs=f"{folder}/rootfs")
    host.name = record["name"]
    idmap = IdMap.from_json(record["idmap"]) if record.get("idmap") else engine.idmap
    host.uids, host.gids = idmap.uids, idmap.gids
    if options.userns.startswith("keep-id"):
        from rootless.container.userns import keep_ids

        host.keep_id = keep_ids(options, os.geteuid(), os.getegid())
    host.node = os.uname().nodename
    host.cgroup_version = cgroup_version()
    host.cgroups_path = f"/rootless-{identity}"
    host.env = os.environ
    host.rlimits = own_limits()
    host.scratch = folder
    if options.tty:
        from rootless.runtime.terminal import get_size

        # Set before the process starts: what it draws first is drawn at the right size.
        size = get_size(0)
        host.console_size = (size[1], size[0]) if size else None
    if record.get("mounts"):
        find_mounts(engine, record, host)
    surroundings(host, engine.config)
    if options.privileged:
        host.devices = host_devices()
    if options.apparmor:
        host.apparmor = is_on("/sys/module/apparmor/parameters/enabled")
    if options.label_options:
        host.selinux = os.path.exists("/sys/fs/selinux/enforce")
    host.init_path = init_path(engine, options) if options.init else ""
    if options.seccomp != "unconfined" and not options.privileged:
        host.seccomp = seccomp_profile(engine, options.seccomp)
    return host


def _spec(
    engine: Engine,
    options: CreateOptions,
    config: dict[str, Any],
    host: HostFacts,
    service: Service | None,
) -> dict[str, Any]:
    """config.json, with what systemd and the hooks have to add to it."""
    if service is not None:
        service.add_files(host)
    spec = make_spec(options, config, host)
    if service is not None:
        service.add_variables(spec)
    hooks_dirs = engine.settings.get("hooks-dir") or engine.config.texts("engine", "hooks_dir")
    if any(os.path.isdir(one) for one in hooks_dirs):
        from rootless.container.hooks import add_hooks

        add_hooks(spec, hooks_dirs, options.annotations, bool(options.mounts))
    return spec


def _join(engine: Engine, options: CreateOptions, *, own_ids: bool) -> Joined | None:
    modes = (
        options.network, options.pid, options.ipc, options.uts, options.cgroupns, options.userns,
    )  # fmt: skip
    if not any(mode.startswith(("container:", "ns:")) for mode in modes):
        return None
    from rootless.container import joining

    return joining.join(engine, options, own_ids=own_ids)


def plan_cgroup(
    engine: Engine, identity: str, options: CreateOptions, spec: dict[str, Any]
) -> cgroup_plan.Plan:
    """Where the container's cgroup will be; an error where a limit that is asked for cannot be kept."""
    manager = cgroup_manager.wanted(engine)
    planned = cgroup_plan.plan(
        identity,
        (spec.get("linux") or {}).get("resources"),
        mode=options.cgroups or "enabled",
        manager=manager,
        parent=options.cgroup_parent,
        default_pids=engine.config.number("containers", "pids_limit")
        if options.pids_limit is None
        else 0,
        stop_timeout_s=options.stop_timeout,
    )
    if manager == "systemd" and planned.manager in ("none", "cgroupfs"):
        log.warn(
            f"--cgroup-manager systemd: falling back to cgroupfs: "
            f"{planned.reason or 'no systemd manager of this user runs'}"
        )
    return planned


def find_mounts(engine: Engine, record: dict[str, Any], host: HostFacts) -> None:
    """Where the sources of the container's mounts are by now, and the folders that its overlays write to."""
    from rootless.container.volumes import make_overlay_folders, resolve

    host.mounts = resolve(engine, record)
    for mount in host.mounts:
        if mount["type"] == "image":
            image = engine.images.lookup(mount["source"])
            roots.settle_layers(engine, image)
            host.image_layers[mount["source"]] = engine.images.lowers(image)
    make_overlay_folders(host)


def is_on(path: str) -> bool:
    """Whether a kernel parameter says yes."""
    try:
        return read_bytes(path).strip() in (b"Y", b"1")
    except OSError:
        return False


def host_devices() -> list[str]:
    """The device nodes that this user may open: what --privileged can give."""
    found = []
    for folder, folders, names in os.walk("/dev"):
        if folder == "/dev":
            # The container has its own of these.
            folders[:] = [name for name in folders if name not in ("pts", "shm", "mqueue", "fd")]
            names = [name for name in names if name not in ("console", "ptmx")]
        for name in names:
            path = f"{folder}/{name}"
            try:
                mode = os.lstat(path).st_mode
            except OSError:
                continue
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                if os.access(path, os.R_OK) or os.access(path, os.W_OK):
                    found.append(path)
    return sorted(found)


def image_of(engine: Engine, record: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The container's image and the execution part of its configuration; none for `--rootfs`."""
    kept = record.get("image")
    if not kept:
        return None, {}
    image = engine.images.get(kept["id"])
    if image is None:
        raise NotFound(
            f"container {record['name']}: its image {kept['name'] or kept['id'][:12]} is gone",
            hint=f"`rootless pull {kept['name']}` brings it back" if kept["name"] else "",
        )
    return image, image.config.get("config") or {}


def lowers_of(engine: Engine, image: Any, options: CreateOptions) -> list[str]:
    """The folders below the container's own changes, the topmost first."""
    return [options.image] if image is None else engine.images.lowers(image)


def image_file(engine: Engine, image: Any, name: str) -> str:
    """The text of a small file of an image, from its topmost layer that has it; never through a link (case 16)."""
    for layer in engine.images.lowers(image) if image is not None else ():
        try:
            root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = openat2(
                    root,
                    name,
                    os.O_RDONLY | os.O_NONBLOCK,
                    0,
                    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
                )
            finally:
                os.close(root)
        except OSError:
            continue
        with os.fdopen(fd, errors="replace") as file:
            return file.read(1 << 20) if stat.S_ISREG(os.fstat(fd).st_mode) else ""
    return ""


def make_files(run_folder: str, record: dict[str, Any], options: CreateOptions) -> dict[str, str]:
    """/run/.containerenv of the container; the network's files come with the network."""
    files: dict[str, str] = {}
    image = record.get("image") or {}
    lines = (
        f'engine="rootless-{record["version"]}"\nname="{record["name"]}"\nid="{record["id"]}"\n'
        f'image="{image.get("name", "")}"\nimageid="{image.get("id", "")}"\nrootless=1\ngraphRootMounted=0\n'
    )
    files["/run/.containerenv"] = network.write_in_place(
        run_folder, "containerenv", lines if options.privileged else ""
    )
    return files


def init_path(engine: Engine, options: CreateOptions) -> str:
    """The small init of `--init`: the one that is named, else the host's catatonit."""
    named = options.init_path or engine.config.text("containers", "init_path")
    for path in (named,) if named else _INIT_PROGRAMS:
        if os.access(path, os.X_OK):
            return path
    raise RootlessError(
        f"--init: {named or 'catatonit'} is not there",
        hint="install the package catatonit, or give --init-path",
    )


def seccomp_profile(engine: Engine, named: str) -> dict[str, Any]:
    """The profile that --seccomp names, else the configured one, else the one that comes with the engine."""
    path = (
        named
        or engine.config.text("containers", "seccomp_profile")
        or data_path("config", "seccomp.json")
    )
    try:
        document: dict[str, Any] = json.loads(read_bytes(path))
    except OSError as error:
        raise RootlessError(
            f"seccomp profile {path}: {os.strerror(error.errno or 0).lower()}"
        ) from None
    except ValueError as error:
        raise RootlessError(f"seccomp profile {path}: not JSON: {error}") from None
    return document


def cgroup_version() -> int:
    """2 where the whole host is on cgroup v2, else 1."""
    return 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1


def own_limits() -> dict[str, tuple[int, int]]:
    """This process's limits of open files and processes, (soft, hard)."""
    limits = {}
    for name in ("nofile", "nproc"):
        soft, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
        limits[name] = (soft, hard)
    return limits
