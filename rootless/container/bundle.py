"""An OCI bundle of an image: a folder with config.json and rootfs that any OCI runtime runs (`rootless bundle`).

For batch systems above all: Slurm's `srun --container DIR` calls rootless-oci with it (config/oci.conf). A bundle has no
network of its own unless it is to have none, and nothing in it points into the engine's store: other nodes that share
the file system, the user and the user's subordinate ids run it, too.
"""

from __future__ import annotations

import errno
import json
import os

from rootless.container import defaults, roots
from rootless.container.creation import find_image
from rootless.container.facts import (
    cgroup_version,
    find_mounts,
    init_path,
    own_limits,
    seccomp_profile,
)
from rootless.container.inside import preparer
from rootless.container.mounts import check_sources, plan
from rootless.container.spec import HostFacts, make_spec
from rootless.errors import RootlessError, Usage
from rootless.linux.idmap import IdMap
from rootless.linux.userns import fork_in_userns
from rootless.state import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.options import CreateOptions
    from rootless.image.session import Reporter

_NETWORKS = ("host", "none")
# What a program that shares the host's network finds there.
_NETWORK_FILES = ("/etc/hosts", "/etc/resolv.conf")


def make(
    engine: Engine,
    options: CreateOptions,
    folder: str,
    reporter: Callable[[], Reporter] | None = None,
) -> str:
    """Make a bundle in a folder that is missing or empty; its absolute path. A failure leaves nothing behind.

    Raises Usage for options that need the engine beside the container.
    """
    folder = os.path.abspath(folder)
    _check_folder(folder)
    defaults.apply(options, engine.config)
    if "network" not in options.given:
        options.network, options.network_options, options.networks = "host", [], {}
    _check_options(options)
    image = find_image(engine, options, reporter)
    work = f"{folder}.rootless-{os.getpid()}"
    try:
        os.mkdir(work, 0o755)
    except OSError as error:
        raise RootlessError(
            f"bundle {folder}: cannot make it: {os.strerror(error.errno or 0).lower()}"
        ) from error
    try:
        os.mkdir(f"{work}/rootfs", 0o755)
        roots.copy_layers(engine, work, engine.images.lowers(image), None, "")
        document = _document(engine, options, image, work)
        with open(f"{work}/config.json", "x", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
        try:
            os.rename(work, folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise _not_empty(folder) from None
            raise
    except BaseException:
        remove_tree(work)
        raise
    return folder


def _check_options(options: CreateOptions) -> None:
    if options.network not in _NETWORKS:
        raise Usage(
            f"--network {options.network}: nothing would make it beside a bundle's container",
            hint="host, which is the default here, or none",
        )
    for mount in options.mounts:
        if mount["type"] not in ("bind", "tmpfs", "devpts") or "O" in mount.get("options", ()):
            raise Usage(
                f"mount at {mount['destination']}: type {mount['type']} needs the engine, which is not there when the "
                "bundle is run",
                hint="bind a folder, or make a tmpfs",
            )


def _check_folder(folder: str) -> None:
    try:
        if os.listdir(folder):
            raise _not_empty(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RootlessError(f"bundle {folder}: {os.strerror(error.errno or 0).lower()}") from None


def _not_empty(folder: str) -> RootlessError:
    return RootlessError(
        f"bundle {folder}: the folder is not empty",
        hint=f"give another, or remove it: `rootless unshare rm -rf {folder}`",
    )


def _document(engine: Engine, options: CreateOptions, image: Any, work: str) -> dict[str, Any]:
    """config.json, with all that the engine would otherwise find out at the start."""
    host = HostFacts(os.urandom(32).hex(), rootfs="rootfs")
    idmap = engine.idmap
    host.uids, host.gids = idmap.uids, idmap.gids
    host.node = os.uname().nodename
    host.hostname = options.hostname or "bundle"
    host.cgroup_version = cgroup_version()
    host.env = os.environ
    host.rlimits = own_limits()
    options.ulimit_host = True  # but for --ulimit: those of the job, whose hard limits may be lower
    defaults.surroundings(host, engine.config)
    check_sources(options.mounts)
    record = {"mounts": plan(options.mounts, None, "ignore"), "options": options.to_json()}
    if record["mounts"]:
        find_mounts(engine, record, host)
    if options.init:
        host.init_path = init_path(engine, options)
    if options.seccomp != "unconfined" and not options.privileged:
        host.seccomp = seccomp_profile(engine, options.seccomp)
    if image.is_host:
        from rootless.image.host import mounts

        host.image_mounts = mounts()
    if options.network == "host":
        host.files = {path: path for path in _NETWORK_FILES if os.path.exists(path)}
    document = make_spec(options, image.config.get("config") or {}, host)
    document["process"] = _completed(document["process"], options, idmap, f"{work}/rootfs")
    # Where a runtime puts it, and what of limits nothing here could have granted, is for whoever runs the bundle.
    document["linux"].pop("cgroupsPath", None)
    return document


def _completed(
    process: dict[str, Any], options: CreateOptions, idmap: IdMap, root: str
) -> dict[str, Any]:
    """The process with ids for names, by the account files of the root, which gets the user's line where one is missing."""
    prepare = preparer(options)
    reads, writes = os.pipe2(os.O_CLOEXEC)

    def inside() -> None:
        os.chroot(root)
        os.chdir("/")
        prepare(process)
        with os.fdopen(writes, "wb") as file:
            file.write(json.dumps(process).encode())

    child = fork_in_userns(idmap, inside)
    os.close(writes)
    with os.fdopen(reads, "rb") as file:
        data = file.read()
    child.wait()
    completed: dict[str, Any] = json.loads(data)
    return completed
