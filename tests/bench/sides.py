"""The two that are compared: this engine as it is installed, and podman, each with a home and a store of its own."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support import host, images
from tests.support.engine import Engine

IMAGE = "localhost/bench:latest"
# A container is idle once whatever its start took has been given back. Our monitor does so after a minute, which is not
# waited for here: ROOTLESS_SETTLE_S says when, in those cases that measure memory.
SETTLE_S = 2


def finish(process: subprocess.Popen[bytes], timeout_s: float = 300) -> int:
    """Wait for a process. Popen.wait with a timeout looks every 50 ms only, which would round every figure up to that."""
    descriptor = os.pidfd_open(process.pid)
    try:
        ready, _, _ = select.select([descriptor], [], [], timeout_s)
    finally:
        os.close(descriptor)
    if not ready:
        process.kill()
        process.wait()
        raise RuntimeError(f"still running after {timeout_s:.0f} s: {process.args!r}")
    return process.wait()


class Side:
    """One engine under measurement."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self.engine = engine
        # For a store other than the one that the settings name.
        self.options: list[str] = []

    def seconds(self, *args: str, stdin: int = subprocess.DEVNULL) -> float:
        """Run a command that must succeed; the wall-clock time from its spawn to its end."""
        with tempfile.TemporaryFile() as err:
            begin = time.perf_counter()
            process = self.engine.popen(*args, stdin=stdin, stdout=subprocess.DEVNULL, stderr=err)
            code = finish(process)
            taken = time.perf_counter() - begin
            if code:
                err.seek(0)
                text = err.read().decode("utf-8", "replace").strip()
                raise RuntimeError(f"{self.name} {' '.join(args)}: exit status {code}: {text}")
        return taken

    def ok(self, *args: str) -> str:
        return self.engine.ok(*args, timeout=300)

    @contextlib.contextmanager
    def settling(self) -> Iterator[None]:
        """What is started meanwhile is soon idle, for `pss_kib`."""
        self.engine.env["ROOTLESS_SETTLE_S"] = str(SETTLE_S)
        yield
        del self.engine.env["ROOTLESS_SETTLE_S"]

    def pss_kib(self, but: set[int], skip: tuple[str, ...] = ()) -> tuple[int, list[str]]:
        """The memory of this side's idle processes in KiB, shared pages by their share, with a line for each process."""
        time.sleep(2 * SETTLE_S)
        total, lines = 0, []
        for pid, text in self.engine.processes().items():
            if pid in but or any(text.startswith(word) for word in skip):
                continue
            kib, how = _memory(pid)
            total += kib
            lines.append(f"{kib} KiB {how}: {text[:100]}")
        return total, lines


def _memory(pid: int) -> tuple[int, str]:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]), "Pss"
    except OSError:
        pass
    # A sandboxed network helper lets nobody look; what is its own anyway is in a file that everybody may read.
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return sum(
        int(fields[key].split()[0]) for key in ("RssAnon", "RssShmem") if key in fields
    ), "RssAnon"


def make_sides(peer: str) -> list[Side]:
    archive = images.busybox_archive(Path(tempfile.mkdtemp(prefix="rlbench-")) / "bench.tar", IMAGE)
    sides = [Side("rootless", Engine())]
    if peer != "none":
        program = host.program(peer)
        if not program:
            raise SystemExit(f"bench: {peer} is not installed; --peer none measures alone")
        engine = Engine(program=[program])
        engine.env["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"
        settings = engine.home / ".config/containers"
        settings.mkdir(parents=True)
        runtime = "crun" if host.has("crun") else "runc"
        manager = "systemd" if host.has("systemd") else "cgroupfs"
        (settings / "containers.conf").write_text(
            f'[engine]\nruntime = "{runtime}"\ncgroup_manager = "{manager}"\nevents_logger = "file"\n'
            '[containers]\nlog_driver = "k8s-file"\n'
        )
        if host.has("overlay"):
            # Some builds fall back to plain copies where nobody says so.
            (settings / "storage.conf").write_text(
                f'[storage]\ndriver = "overlay"\nrunroot = "{engine.run_home}/containers"\n'
                f'graphroot = "{engine.home}/.local/share/containers/storage"\n'
            )
        sides.append(Side(peer, engine))
        if host.has("overlay"):
            sides[-1].options = ["--storage-driver", "overlay"]
    for side in sides:
        side.ok("load", "--input", str(archive))
    archive.unlink()
    archive.parent.rmdir()
    return sides


def close(sides: list[Side]) -> None:
    for side in sides:
        side.engine("rm", "--all", "--force", "--time", "0", timeout=300)
        if side.name != "rootless":
            side.engine("system", "reset", "--force", timeout=300)
        side.engine.close()


def describe() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"{os.cpu_count()} x {models[0] if models else os.uname().machine}, Linux {os.uname().release}"
