"""The command under test as a subprocess, with a home, a store and a run-time folder of its own.

What a test leaves behind is found by a word that stands in every path and environment of this engine: processes, mounts
and folders that carry it after the last container is gone are leaks.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support import host

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = float(os.environ.get("ROOTLESS_TEST_TIMEOUT", "60"))
# How our network helpers are called and nobody else's: by descriptors, not by paths.
ORPHANS = ("--netns /proc/self/fd/1", "--api-socket=slirp4netns.sock")


def command() -> list[str]:
    """The command to test: $ROOTLESS_COMMAND, the one beside this interpreter, the one on PATH, or the checkout's."""
    if given := os.environ.get("ROOTLESS_COMMAND"):
        return given.split()
    beside = Path(sys.executable).parent / "rootless"
    if beside.exists():
        return [str(beside)]
    return [shutil.which("rootless") or str(REPOSITORY / "bin/rootless")]


class Result:
    """What a run of the command gave. Compare `.code`, `.out` and `.err`; print it to see all three."""

    def __init__(self, args: tuple[str, ...], code: int, raw_out: bytes, raw_err: bytes) -> None:
        self.args = args
        self.code = code
        self.raw_out = raw_out
        self.raw_err = raw_err

    @property
    def out(self) -> str:
        return self.raw_out.decode("utf-8", "surrogateescape")

    @property
    def err(self) -> str:
        return self.raw_err.decode("utf-8", "surrogateescape")

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.raw_out)

    def __repr__(self) -> str:
        return f"rootless {' '.join(self.args)}\nexit status {self.code}\nstdout: {self.out!r}\nstderr: {self.err!r}"


class Engine:
    """Runs the command: `engine("ps", "-a")` gives a Result, `engine.ok(...)` its stripped output or a failure."""

    def __init__(self, folder: Path | None = None, program: list[str] | None = None) -> None:
        self.program = program or command()
        self.word = f"rlt{secrets.token_hex(4)}"
        # Short, because a socket's path has 107 bytes; below /tmp, because a pytest folder's parents are private.
        self.folder = folder or Path(
            tempfile.mkdtemp(prefix=f"{self.word}-", dir=os.environ.get("ROOTLESS_TEST_DIR"))
        )
        self.home = self.folder / "h"
        self.run_home = self.folder / "r"
        self.home.mkdir(parents=True)
        self.run_home.mkdir(mode=0o700)
        self.env = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.run_home),
            "XDG_DATA_HOME": str(self.home / ".local/share"),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "USER": os.environ.get("USER", ""),
            "LOGNAME": os.environ.get("LOGNAME", ""),
        }
        if settle := os.environ.get("ROOTLESS_SETTLE_S"):
            # 0: every monitor of the tests goes on in an interpreter of its own at once (container/dormancy.py).
            self.env["ROOTLESS_SETTLE_S"] = settle
        bus = f"/run/user/{os.getuid()}/bus"
        if os.path.exists(bus):
            self.env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"

    @property
    def data(self) -> Path:
        return self.home / ".local/share/rootless"

    @property
    def run(self) -> Path:
        return self.run_home / "rootless"

    def popen(
        self, *args: str, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start the command and leave it to the test, which must wait for it."""
        return subprocess.Popen([*self.program, *args], env={**self.env, **(env or {})}, **options)

    def __call__(
        self,
        *args: str,
        input: str | bytes | None = None,
        timeout: float | None = None,
        env: dict[str, str] | None = None,
        cwd: str | Path | None = None,
        **options: Any,
    ) -> Result:
        if isinstance(input, str):
            input = input.encode()
        process = self.popen(
            *args,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        try:
            out, err = process.communicate(input, timeout=timeout or TIMEOUT_S)
        except subprocess.TimeoutExpired as late:
            process.kill()
            # Not communicate(): a container that holds the pipe open would keep it from ending.
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
            process.wait()
            raise AssertionError(
                f"still running after {late.timeout:.0f} s: rootless {' '.join(args)}\n"
                f"stdout: {late.stdout!r}\nstderr: {late.stderr!r}"
            ) from None
        except BaseException:
            process.kill()
            process.wait()
            raise
        return Result(args, process.returncode, out, err)

    def ok(self, *args: str, **options: Any) -> str:
        """Run a command that must succeed; its standard output without the last line end."""
        result = self(*args, **options)
        assert result.code == 0, result
        return result.out.removesuffix("\n")

    def fails(self, *args: str, code: int = 125, **options: Any) -> str:
        """Run a command that must fail with this exit status; its standard error."""
        result = self(*args, **options)
        assert result.code == code, result
        return result.err

    def inspect(self, name: str, kind: str = "container") -> Any:
        return json.loads(self.ok(kind, "inspect", name))[0]

    # -- what is left behind

    def processes(self) -> dict[int, str]:
        """Every process that carries this engine's word in its command line, environment or mounts, and its children.

        A network helper shows nobody its environment, and has no path of ours in its arguments: it is found as a child of
        the monitor, or, when that is gone, as an orphan.
        """
        word = self.word.encode()
        texts: dict[int, str] = {}
        parents: dict[int, int] = {}
        found: set[int] = set()
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            pid = int(entry.name)
            try:
                text = Path(entry.path, "cmdline").read_bytes()
                state, parent = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:2]
                own = entry.stat().st_uid in (os.getuid(), 0)  # not dumpable: shown as root's
            except OSError:
                continue
            if state in "ZX":
                continue
            texts[pid] = text.replace(b"\0", b" ").decode("utf-8", "replace").strip()
            parents[pid] = int(parent)
            if own and int(parent) == 1 and any(sign in texts[pid] for sign in ORPHANS):
                found.add(pid)
            for file in ("cmdline", "environ", "mountinfo"):
                try:
                    if word in Path(entry.path, file).read_bytes():
                        found.add(pid)
                        break
                except OSError:
                    continue
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return {pid: texts[pid] for pid in sorted(found)}

    def leaks(self, patience_s: float = 5) -> list[str]:
        """What is still there though no container is. Ending takes the kernel a moment, hence the patience."""
        deadline = time.monotonic() + patience_s
        while True:
            found = self._leaks()
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.02)  # polls the state of processes that are not our children

    def _leaks(self) -> list[str]:
        found = [f"process {pid}: {text}" for pid, text in self.processes().items()]
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            found += [f"mount: {line.strip()}" for line in file if self.word in line]
        for folder in (
            self.data / "containers",
            self.data / "names",
            self.data / "pods",
            self.data / "tmp",
            self.run / "containers",
        ):
            if folder.is_dir():
                found += [
                    f"file: {path}"
                    for path in sorted(folder.iterdir())
                    if not path.name.endswith(".lock")
                ]
        return found

    def clear(self) -> None:
        """Remove the containers, pods and volumes that a test did not."""
        for args in (
            ("pod", "rm", "--all", "--force"),
            ("rm", "--all", "--force", "--time", "0", "--volumes"),
        ):
            if (self.data / "pods").exists() or args[0] != "pod":
                self(*args)
        if (self.data / "volumes").is_dir() and any((self.data / "volumes").iterdir()):
            self("volume", "rm", "--all", "--force")

    def kill(self) -> None:
        """Kill every process of this engine; some end with another."""
        for pid in self.processes():
            try:
                os.kill(pid, 9)
            except OSError:
                pass

    def close(self) -> None:
        """End every process of this engine and remove its folders, whoever owns them."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.exists() and host.has("subids"):
            # Files of subordinate ids are ours to remove as root of a namespace that maps them.
            subprocess.run(
                [
                    "unshare",
                    "--user",
                    "--map-root-user",
                    "--map-auto",
                    "rm",
                    "-rf",
                    str(self.folder),
                ],
                check=False,
                capture_output=True,
                timeout=60,
            )
