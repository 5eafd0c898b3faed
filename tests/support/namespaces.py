"""A user and a network namespace for tests of what is done inside."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

from rootless.linux.sched import CLONE_NEWNET, CLONE_NEWUSER, setns, unshare


class Namespaces:
    """A user and a network namespace, held by a child that sleeps."""

    def __init__(self) -> None:
        ready, tell = os.pipe()
        self._hold, self._end = -1, -1
        hold, self._end = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._end)
            uid, gid = os.getuid(), os.getgid()
            unshare(CLONE_NEWUSER | CLONE_NEWNET)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
            os.write(tell, b"x")
            os.read(hold, 1)
            os._exit(0)
        os.close(tell)
        os.close(hold)
        assert os.read(ready, 1) == b"x"
        os.close(ready)
        self.user = os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        self.net = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def inside(self, body: Callable[[], None]) -> None:
        """Run `body` in both; its failure is the caller's."""
        reads, writes = os.pipe()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                setns(self.user, CLONE_NEWUSER)
                setns(self.net, CLONE_NEWNET)
                body()
                status = 0
            except BaseException:
                os.write(writes, traceback.format_exc().encode()[-4000:])
            finally:
                os._exit(status)
        os.close(writes)
        text = b""
        while chunk := os.read(reads, 4096):
            text += chunk
        os.close(reads)
        assert os.waitpid(pid, 0)[1] == 0, text.decode()

    def close(self) -> None:
        for fd in (self.user, self.net, self._end):
            os.close(fd)
        os.waitpid(self.pid, 0)
