"""A machine with systemd as PID 1, emulated by qemu, and commands run in it over ssh.

The emulation is some 15 times slower than the host, and the host may be busy: nothing here waits for a time, but until
something is so, or the machine has ended. What is written to its disk goes into a file that vanishes with it.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.vm.image import Image

# cx16, la57: with both this kernel meets a fault of qemu 7.2's in its allocator, once in some hundred starts of a process.
_CPU = "max,cx16=off,la57=off"
_BOOT_S = 600.0  # half a minute on an idle machine
_SSH_FAILED = 255
#: Nothing of a machine outlives the process that started it, however that ends.
_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_BOOTS = 5  # in a row that may end in a panic


class Lost(RuntimeError):
    """The machine has ended, or its kernel has panicked, as one in ten emulated ones does: no fault of what ran in it."""

    output = ""  # of the command that it met


class Machine:
    """One running machine; `with` boots and ends it."""

    def __init__(self, image: Image, *, memory_mb: int = 2048) -> None:
        self.image = image
        self.memory_mb = memory_mb
        self._folder = tempfile.TemporaryDirectory(prefix="vm-", dir="/tmp")
        self.console = Path(self._folder.name, "console")
        self.port = 0
        self._qemu: subprocess.Popen[bytes] | None = None
        self._masters: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Machine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        accel = os.environ.get("ROOTLESS_TEST_ACCEL", "tcg,thread=multi")
        command = [
            *_WITH_US, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-accel", accel, "-cpu", _CPU, "-smp", "2", "-m", str(self.memory_mb),
            "-kernel", self.image["vmlinuz"], "-initrd", self.image["initrd.img"],
            "-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 net.ifnames=0 mitigations=off oops=panic",
            "-drive", f"file={self.image['disk.img']},if=virtio,format=raw,snapshot=on",
            "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22",
            "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
            "-serial", f"file:{self.console}",
        ]  # fmt: skip
        environment = {
            **os.environ,
            "TMPDIR": str(self.image.folder),
        }  # where the snapshot's blocks go
        for left in reversed(range(_BOOTS)):
            self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
            try:
                self.wait_for_ssh()
                return
            except Lost:
                self._end()
                if not left:
                    raise

    def stop(self) -> None:
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        for master in self._masters.values():
            master.terminate()
            master.wait()
        self._masters = {}
        if self._qemu is not None:
            self._qemu.terminate()
            self._qemu.wait()
            self._qemu = None

    def wait_for_ssh(self) -> None:
        deadline = time.monotonic() + _BOOT_S
        while self._ask("true", user="root").returncode:
            self._check(deadline)
            time.sleep(0.5)

    def _check(self, deadline: float = float("inf")) -> None:
        """Raise where there is nothing left to wait for."""
        assert self._qemu is not None
        panicked = b"Kernel panic" in self.console.read_bytes() if self.console.exists() else False
        if self._qemu.poll() is not None or panicked or time.monotonic() > deadline:
            tail = self.console.read_text(errors="replace")[-3000:] if self.console.exists() else ""
            raise Lost(f"the test machine does not answer; its console's end:\n{tail}")

    def ssh(self, user: str, *more: str) -> list[str]:
        return [
            "ssh", "-q", "-F", "none", "-i", self.image["key"], "-p", str(self.port),
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=20",
            "-o", "BatchMode=yes", "-o", f"ControlPath={self._folder.name}/{user}", *more, f"{user}@127.0.0.1",
        ]  # fmt: skip

    def _master(self, user: str) -> None:
        """A connection that later commands share: a log-in costs a second or more."""
        master = self._masters.get(user)
        if master is not None and master.poll() is None:
            return
        path = Path(self._folder.name, user)
        master = subprocess.Popen(
            [*_WITH_US, *self.ssh(user, "-M", "-N")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._masters[user] = master
        while not path.exists() and master.poll() is None:
            self._check()
            time.sleep(0.05)

    def run(
        self,
        command: str,
        *,
        user: str = "user",
        data: bytes = b"",
        check: bool = True,
        timeout: float = 900,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command; its output is text. Lost where the machine ends meanwhile."""
        result = self._ask(command, user=user, data=data, timeout=timeout)
        if result.returncode == _SSH_FAILED:
            self._check()
        if check and result.returncode:
            raise AssertionError(
                f"{command}: status {result.returncode}\n{result.stdout}{result.stderr}"
            )
        return result

    def _ask(
        self, command: str, *, user: str, data: bytes = b"", timeout: float = 900
    ) -> subprocess.CompletedProcess[str]:
        self._master(user)
        with (
            tempfile.TemporaryFile() as given
        ):  # communicate would not go on with data after a time-out
            given.write(data)
            given.seek(0)
            asked = subprocess.Popen(
                [*self.ssh(user), command], stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )  # fmt: skip
        deadline = time.monotonic() + timeout
        while True:
            try:
                out, err = asked.communicate(timeout=2)
                break
            except subprocess.TimeoutExpired:
                try:
                    self._check(deadline)
                except Lost as lost:
                    asked.kill()
                    lost.output = asked.communicate()[0].decode(errors="replace")
                    raise
        return subprocess.CompletedProcess(
            command, asked.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )

    def install(self, package: Path) -> None:
        """Install our wheel for all users, in place of an earlier one."""
        self.run(f"cat > /tmp/{package.name}", data=package.read_bytes(), user="root")
        options = "--root-user-action=ignore --no-deps --no-index --break-system-packages --force-reinstall"
        self.run(f"pip install -q {options} /tmp/{package.name}", user="root")

    def put(self, archive: bytes, folder: str, *, user: str = "user") -> None:
        """Unpack a tar archive in the machine."""
        quoted = shlex.quote(folder)
        self.run(f"mkdir -p {quoted} && tar -xf - -C {quoted}", user=user, data=archive)

    def boot_id(self) -> str:
        return self._ask("cat /proc/sys/kernel/random/boot_id", user="root").stdout.strip()

    def reboot(self) -> None:
        """Restart it in order, and wait until it answers as another boot."""
        before = self.boot_id()
        self._ask("systemctl reboot", user="root")
        deadline = time.monotonic() + _BOOT_S
        while self.boot_id() in ("", before):
            self._check(deadline)
            time.sleep(0.5)
