"""A machine to try things in by hand: `python3 -m tests.vm`, with `up` or nothing.

It boots with the checkout installed and its tests in ~/checkout, prints how to get in, and ends with this command.
`python3 -m tests.vm sync SSH-WORDS…` puts the checkout's present state into one that is up.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.vm.image import image
from tests.vm.machine import Machine
from tests.vm.package import ROOT, archive_of_tests, wheel

_SITE = "/usr/local/lib/python3.13/dist-packages"


def up() -> None:
    started = time.monotonic()
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: sys.exit(0))
    with Machine(image()) as machine, tempfile.TemporaryDirectory() as folder:
        machine.install(wheel(Path(folder)))
        machine.put(archive_of_tests(), "checkout")
        print(
            f"up after {time.monotonic() - started:.0f} s; {shlex.join(machine.ssh('user'))}",
            flush=True,
        )
        signal.pause()


def _packed(*names: str) -> bytes:
    command = ["tar", "-cf", "-", "--exclude=__pycache__", "-C", str(ROOT), *names]
    return subprocess.run(command, capture_output=True, check=True).stdout


def sync(ssh: list[str]) -> None:
    """The package and the tests, without a wheel: a second instead of half a minute."""
    root = [word.replace("user@", "root@") if "@" in word else word for word in ssh]
    root = [
        word.removesuffix("/user") + "/root" if word.startswith("ControlPath") else word
        for word in root
    ]
    for name in ("rootless", "slirp"):
        subprocess.run(
            [*root, f"tar -xf - -C {_SITE} --no-same-owner"],
            input=_packed(name), check=True,
        )  # fmt: skip
    share = f"{_SITE}/rootless/share"
    users = "/usr/local/share/systemd/user"
    subprocess.run(
        [*root, f"tar -xf - -C {share} --no-same-owner && mkdir -p {users} && cp {share}/systemd-units/*.service "
         f"{share}/systemd-units/*.timer {users} && python3 -m compileall -q {_SITE}/rootless {_SITE}/slirp"], input=_packed("config", "systemd-units"), check=True,
    )  # fmt: skip
    subprocess.run([*ssh, "tar -xf - -C checkout"], input=archive_of_tests(), check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["sync"]:
        sync(sys.argv[2:])
    else:
        up()
