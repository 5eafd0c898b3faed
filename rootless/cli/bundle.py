"""`rootless bundle`: an image as an OCI bundle, for batch systems and other runtimes."""

from __future__ import annotations

from rootless.cli.container_options import CREATE
from rootless.cli.table import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation

#: What a bundle's config.json can say; the rest of `create` needs an engine beside the container.
_KEPT = frozenset((
    "annotation", "arch", "authfile", "cap-add", "cap-drop", "cgroupns", "cpu-period", "cpu-quota", "cpu-shares", "cpus",
    "cpuset-cpus", "cpuset-mems", "creds", "device", "entrypoint", "env", "env-file", "env-host", "gidmap", "group-add",
    "hostname", "image-volume", "init", "init-path", "ipc", "label", "memory", "memory-reservation", "memory-swap", "mount",
    "network", "no-hostname", "oom-score-adj", "os", "passwd-entry", "personality", "pid", "pids-limit", "platform", "pull",
    "quiet", "read-only", "read-only-tmpfs", "retry", "retry-delay", "security-opt", "shm-size", "sysctl", "tls-verify",
    "tmpfs", "tty", "tz", "ulimit", "umask", "unsetenv", "unsetenv-all", "user", "uts", "variant", "volume", "workdir",
))  # fmt: skip
OPTIONS = tuple(option for option in CREATE if option.name in _KEPT)


def main(inv: Invocation) -> int:
    from rootless.cli.output import line
    from rootless.cli.run import reporter
    from rootless.container.bundle import make
    from rootless.container.engine import open_engine
    from rootless.container.options import CreateOptions

    image, folder, *command = inv.args
    flags = {name: value for name, value in inv.options.items() if inv.given(name)}
    options = CreateOptions.from_flags(flags, [image, *command])
    engine = open_engine(inv.globals)
    line(make(engine, options, folder, lambda: reporter(quiet=options.quiet)))
    return 0


COMMAND = Command(
    "[options] IMAGE DIR [COMMAND [ARG...]]",
    main,
    OPTIONS,
    args=(2, None),
    interspersed=False,
    description=(
        "Makes an OCI bundle of an image: DIR/config.json and DIR/rootfs, and prints its path. Any OCI runtime runs it, as in "
        "`rootless-oci run --bundle DIR NAME`, and so does Slurm: `srun --container DIR COMMAND`. Its files belong to your "
        "subordinate ids: `rootless unshare rm -rf DIR` removes it."
    ),
    examples=("bundle -e OMP_NUM_THREADS=8 -v /scratch:/scratch debian ~/bundles/debian",),
    complete="images",
)
