"""Another OCI runtime under the engine: crun, runc, or whatever speaks their command line (`--runtime`).

`ExternalLaunch` and `ExternalExecution` stand in the places of Launch and Execution. What the other runtime could not do
for an ordinary user is done before it is called, by a stage that is the first half of our own init: it makes the user
and network namespaces, the root and the sources of the mounts, and completes the process document.

monitor                         stage (root of the user namespace)        runtime                 container's init
clone ────────────────────────► namespaces
id maps, cgroup, network
        ─── MAPPED ───────────► root, mounts below BUNDLE/fs, config.json
                                runtime create ─────────────────────────► namespaces, mounts ────► waits
        ◄── CONSOLE ───────────
        ◄── PREPARED pid ──────                                           (ends; init is the monitor's now)
        ─── START ────────────► runtime start ──────────────────────────────────────────────────► execve
        ◄── end of file, or FAILED

The cgroup is the engine's own: the stage is in it before the runtime is called, which is told to leave it alone, so that
limits, `update`, `stats` and `pause` are the same under every runtime.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError, SetupError
from rootless.linux import signal
from rootless.runtime import sync
from rootless.runtime.external.program import adopt_orphans
from rootless.runtime.external.stage import STAGED, Stage
from rootless.runtime.launch import Launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from rootless.linux.idmap import IdMap
    from rootless.runtime.external.program import ExternalRuntime
    from rootless.runtime.process import Plan
    from rootless.runtime.rootfs import Root


class ExternalLaunch(Launch):
    """One start through another runtime."""

    __slots__ = ("runtime", "original", "stage", "holder", "_forwarded")

    def __init__(
        self,
        spec: dict[str, Any],
        root: Root,
        runtime: ExternalRuntime,
        *,
        stdio: tuple[int, int, int] | None,
        preserve_fds: Sequence[int] = (),
        in_root: Callable[[dict[str, Any]], object] | None = None,
        identity: str = "",
        outer: tuple[int, IdMap] | None = None,
    ) -> None:
        linux = dict(spec.get("linux") or {})
        linux.pop("seccomp", None)  # the runtime's to compile
        entries = linux.get("namespaces") or []
        # Opened here, where the paths mean what the engine meant.
        self._forwarded = _open_namespaces(entries)
        linux["namespaces"] = [e for e in entries if e["type"] in STAGED] + [{"type": "mount"}]
        super().__init__(
            {**spec, "linux": linux},
            root,
            stdio=stdio,
            preserve_fds=preserve_fds,
            in_root=in_root,
            identity=identity,
            bundle=runtime.bundle,
            outer=outer,
        )
        self.runtime = runtime
        self.original = spec
        self.stage = 0
        self.holder = -1

    def create(self) -> None:
        if not any(e["type"] == "user" for e in self.spec["linux"]["namespaces"]):
            raise SetupError(
                f"--runtime {self.runtime.name}: a container without a user namespace of its own",
                stage="namespaces",
                hint="leave out --runtime",
            )
        self.runtime.make_folders()
        adopt_orphans()
        super().create()
        self.stage = self.pid
        # A joined one came by descriptor: its process's folder in /proc is closed to us.
        self.holder = (
            os.dup(self.userns)
            if self.userns >= 0
            else os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        )

    def _enter(self, plan: Plan, channel: sync.Channel) -> NoReturn:
        stage = Stage(plan, channel, self.runtime, self.original, self._forwarded)
        try:
            stage.run()
        except BaseException as error:
            try:
                channel.send(sync.FAILED, sync.encode_failure(stage.stage, error))
            except BaseException:
                pass
        finally:
            os._exit(1)

    def _take_prepared(self, data: bytes) -> None:
        self.pid = int(data)  # until now it was the stage's

    def started(self) -> None:
        super().started()
        self._reap_stage()

    def _reap_stage(self) -> None:
        if self.stage > 0:
            try:
                os.waitpid(self.stage, 0)
            except ChildProcessError:
                pass
            self.stage = 0

    def abort(self) -> None:
        super().abort()
        if self.stage > 0:
            try:
                os.kill(self.stage, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._reap_stage()
        self.close()

    def close(self) -> None:
        """After the container's end: the runtime forgets it."""
        if self.holder >= 0:
            try:
                self.runtime.forget(self.holder)
            except RootlessError:
                pass  # it never got so far, or has forgotten it by itself
            os.close(self.holder)
            self.holder = -1
        for fd in self._forwarded.values():
            if fd >= 0:
                os.close(fd)
        self._forwarded = {}


def _open_namespaces(entries: list[dict[str, Any]]) -> dict[str, int]:
    """The runtime's namespaces: type → descriptor of one to join, -1 for a new one."""
    found: dict[str, int] = {}
    for entry in entries:
        kind = entry["type"]
        if kind in STAGED:
            continue
        path = entry.get("path")
        found[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path else -1
    return found
