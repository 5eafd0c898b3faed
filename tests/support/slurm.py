"""A Slurm of one node, of the calling user's own: munged, slurmctld and slurmd on loopback, with config/oci.conf."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.support import host


def version() -> tuple[int, int]:
    program = host.program("slurmd")
    assert program is not None
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout
    words = said.split()[-1].split(".")
    return int(words[0]), int(words[1])


def free_ports(count: int) -> list[int]:
    ends = [socket.socket() for _ in range(count)]
    for end in ends:
        end.bind(("127.0.0.1", 0))
    ports = [int(end.getsockname()[1]) for end in ends]
    for end in ends:
        end.close()
    return ports


class Slurm:
    """Started by `with`; every process of it is ended at the end."""

    def __init__(self, folder: Path, oci_conf: str, path: str) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.env = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{path}:/usr/sbin:/sbin",
        }
        self.env.pop("XDG_RUNTIME_DIR", None)
        (folder / "oci.conf").write_text(oci_conf)
        if version() >= (23, 11):
            (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        for name in ("state", "spool"):
            (folder / name).mkdir()
        user = subprocess.run(
            ["id", "-un"], capture_output=True, text=True, check=True
        ).stdout.strip()
        node = socket.gethostname().partition(".")[0]
        controller, daemon = free_ports(2)
        lines = {
            "ClusterName": "t",
            "SlurmctldHost": f"{node}(127.0.0.1)",
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={folder}/munge.sock",
            "CredType": "cred/munge",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "MpiDefault": "none",
            "SlurmctldPort": controller,
            "SlurmdPort": daemon,
            "SlurmctldPidFile": f"{folder}/slurmctld.pid",
            "SlurmdPidFile": f"{folder}/slurmd.pid",
            "StateSaveLocation": f"{folder}/state",
            "SlurmdSpoolDir": f"{folder}/spool",
            "SlurmctldLogFile": f"{folder}/slurmctld.log",
            "SlurmdLogFile": f"{folder}/slurmd.log",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU",
            "ReturnToService": 2,
            "SlurmdParameters": "config_overrides",
            "KillWait": 2,
            "InactiveLimit": 0,
            "NodeName": f"{node} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN",
            "PartitionName": "debug Nodes=ALL Default=YES State=UP",
        }
        (folder / "slurm.conf").write_text(
            "".join(f"{key}={value}\n" for key, value in lines.items())
        )

    def __enter__(self) -> Slurm:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        words = [
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={self.folder}/munge.sock",
        ]
        words += [f"--{name}-file={self.folder}/munge.{name}" for name in ("pid", "log", "seed")]
        self._start("munged", *words)
        self._until("munge's socket", (self.folder / "munge.sock").exists)
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D")
        self._until("an idle node", lambda: "idle" in self.say("sinfo", "-h", "-o", "%T"))

    def _start(self, name: str, *words: str) -> None:
        program = host.program(name)
        assert program is not None
        log = (self.folder / f"{name}.out").open("wb")
        self.processes.append(
            subprocess.Popen(
                [program, *words],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        )
        log.close()

    def _until(self, what: str, done: Any) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, f"no {what}: {self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self.folder.glob("slurm*.*"))
        )

    def say(self, *words: str) -> str:
        return subprocess.run(
            words, env=self.env, capture_output=True, text=True, timeout=60, check=False
        ).stdout

    def popen(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["srun", "--quiet", *words], env=self.env, cwd=self.folder, **options
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        """srun's exit code, output and errors."""
        process = self.popen(
            *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"srun {words} does not end: {self.logs()}") from None
        return process.returncode, out.decode(), err.decode()

    def __exit__(self, *exception: object) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
