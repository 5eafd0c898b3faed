"""Bundles of busybox, and a runtime that is called as an engine calls it: ours or a peer's (crun, runc)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.engine import REPOSITORY, Engine, Result
from tests.support.images import GROUP, PASSWD

APPLETS = (
    *("sh", "cat", "chmod", "cp", "echo", "env", "false", "grep", "hostname", "id", "kill", "ls", "mkdir", "mount", "nc"),
    *("ps", "readlink", "rm", "sed", "seq", "sleep", "stat", "stty", "touch", "true", "tty", "ulimit", "wc", "yes"),
)  # fmt: skip
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def command() -> list[str]:
    """The runtime to test: $ROOTLESS_OCI_COMMAND, the one on PATH, or the checkout's."""
    if given := os.environ.get("ROOTLESS_OCI_COMMAND"):
        return given.split()
    return [shutil.which("rootless-oci") or str(REPOSITORY / "bin/rootless-oci")]


def base_spec(*args: str) -> dict[str, Any]:
    """The configuration of a plain container, without a user namespace: the caller's business, or the runtime's."""
    return {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": list(args) or ["true"], "env": [PATH], "cwd": "/"},
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {
                "destination": "/sys",
                "type": "sysfs",
                "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
    }  # fmt: skip


class Runtime(Engine):
    """A runtime with a folder for bundles and a --root of its own."""

    def __init__(self, program: list[str] | None = None) -> None:
        super().__init__(program=program or command())
        self.root = self.folder / "s"
        self.bundles = self.folder / "b"
        self.bundles.mkdir()
        self.rootfs = self.folder / "rootfs"
        make_rootfs(self.rootfs)
        self.plain = list(self.program)
        self.program = [*self.program, "--root", str(self.root)]
        self._count = 0

    def bundle(
        self,
        *args: str,
        change: Callable[[dict[str, Any]], object] | None = None,
        own: bool = False,
    ) -> Path:
        """A bundle that runs `args`; its root is shared with the others unless it is to have its `own`."""
        self._count += 1
        path = self.bundles / f"b{self._count}"
        path.mkdir()
        if own:
            shutil.copytree(self.rootfs, path / "rootfs", symlinks=True)
        else:
            (path / "rootfs").symlink_to(self.rootfs)
        spec = base_spec(*args)
        if change is not None:
            change(spec)
        (path / "config.json").write_text(json.dumps(spec))
        return path

    def go(
        self,
        *args: str,
        change: Callable[[dict[str, Any]], object] | None = None,
        flags: tuple[str, ...] = (),
        **options: Any,
    ) -> Result:
        """`run` in the foreground of a bundle made for it."""
        return self(
            "run", *flags, "--bundle", str(self.bundle(*args, change=change)), self.name(), **options
        )  # fmt: skip

    def name(self) -> str:
        self._count += 1
        return f"c{self._count}"

    def start(self, *args: str, change: Callable[[dict[str, Any]], object] | None = None) -> str:
        """A container that runs in the background; its id."""
        name = self.name()
        bundle = self.bundle(*(args or ("sleep", "1000")), change=change)
        self.quiet("create", "--bundle", str(bundle), name)
        self.quiet("start", name)
        return name

    def quiet(self, *args: str, **options: Any) -> None:
        """A command that must succeed, whose streams a container may keep: with files instead of pipes."""
        with open(self.folder / "out", "wb") as out, open(self.folder / "err", "wb") as err:
            process = subprocess.run(
                [*self.program, *args],
                env={**self.env, **options.pop("env", {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=60,
                check=False,
                **options,
            )
        assert process.returncode == 0, (args, (self.folder / "err").read_text())

    def state(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = self("state", name).json
        return state

    def wait_for(self, name: str, status: str) -> None:
        deadline = time.monotonic() + 30
        while self.state(name)["status"] != status:
            assert time.monotonic() < deadline, self.state(name)
            time.sleep(0.01)

    def clear(self) -> None:
        """End every container, and see that nothing of them is left."""
        if self.root.is_dir():
            for name in sorted(os.listdir(self.root)):
                if not name.startswith("."):
                    self("delete", "--force", name)
        left = (
            [name for name in os.listdir(self.root) if not name.startswith(".")]
            if self.root.is_dir()
            else []
        )
        assert left == []


def make_rootfs(path: Path) -> None:
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        (path / name).mkdir(parents=True)
    (path / "tmp").chmod(0o1777)
    busybox = shutil.which("busybox", path="/usr/bin:/bin") or "/bin/busybox"
    shutil.copy(busybox, path / "bin/busybox")
    for applet in APPLETS:
        (path / "bin" / applet).symlink_to("busybox")
    (path / "etc/passwd").write_bytes(PASSWD)
    (path / "etc/group").write_bytes(GROUP)
