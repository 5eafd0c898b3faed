"""What the kernel reports, inside a container, of capabilities, no_new_privs and the system call filter."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless.runtime.capabilities import DEFAULT, mask
from tests.support.engine import Engine

pytestmark = pytest.mark.needs("userns", "subids")

ALL = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
EVERY = (1 << ALL + 1) - 1
USUAL = mask(DEFAULT)
RAW = mask(["CAP_NET_RAW"])


def reported(rootless: Engine, *options: str, front: tuple[str, ...] = ()) -> dict[str, int]:
    words = front or ("run", "--rm", "--network", "none", *options, "host")
    text = rootless.ok(*words, "grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status")
    fields = (line.split() for line in text.splitlines())
    return {name.rstrip(":").removeprefix("Cap"): int(value, 16) for name, value in fields}


@pytest.mark.parametrize(
    ("options", "bounding", "effective", "ambient", "seccomp"),
    [
        ((), USUAL, USUAL, 0, 2),
        (("--cap-drop", "all"), 0, 0, 0, 2),
        (("--cap-drop", "ALL", "--cap-add", "net_raw"), RAW, RAW, 0, 2),
        (("--cap-add", "all"), EVERY, EVERY, 0, 2),
        (("--privileged",), EVERY, EVERY, 0, 0),
        (("--user", "1000"), USUAL, 0, 0, 2),
        (("--user", "1000", "--cap-add", "net_raw"), USUAL | RAW, RAW, RAW, 2),
        (("--user", "1000", "--privileged"), EVERY, 0, 0, 0),
        (("--security-opt", "seccomp=unconfined"), USUAL, USUAL, 0, 0),
    ],
    ids=lambda value: " ".join(value) or "default" if isinstance(value, tuple) else "",
)
def test_cases_19_and_20_capabilities(
    rootless: Engine, options: tuple[str, ...], bounding: int, effective: int, ambient: int, seccomp: int
) -> None:  # fmt: skip
    """Nothing is inheritable but what is ambient; another user has in effect only what was asked for by name."""
    assert reported(rootless, *options) == {
        "Inh": ambient, "Prm": effective, "Eff": effective, "Bnd": bounding, "Amb": ambient,
        "NoNewPrivs": 0, "Seccomp": seccomp,
    }  # fmt: skip


def test_cases_19_and_20_capabilities_of_exec(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--network", "none", "--name", "web", "host", "sleep", "1000")
    assert reported(rootless, front=("exec", "web")) == {
        "Inh": 0, "Prm": USUAL, "Eff": USUAL, "Bnd": USUAL, "Amb": 0, "NoNewPrivs": 0, "Seccomp": 2
    }  # fmt: skip
    other = reported(rootless, front=("exec", "--user", "1000", "web"))
    assert (other["Inh"], other["Prm"], other["Eff"], other["Amb"]) == (0, 0, 0, 0)
    assert other["Seccomp"] == 2


def test_no_new_privileges(rootless: Engine) -> None:
    assert reported(rootless, "--security-opt", "no-new-privileges")["NoNewPrivs"] == 1


SOCKETS = """
import errno, socket
for family in (socket.AF_ALG, socket.AF_VSOCK):
    try:
        socket.socket(family, socket.SOCK_SEQPACKET)
        print("open")
    except OSError as error:
        print(errno.errorcode[error.errno])
socket.socket(socket.AF_INET6)
"""


@pytest.mark.parametrize("options", [(), ("--cap-add", "all"), ("--user", "1000")])
def test_case_25_sockets(rootless: Engine, options: tuple[str, ...]) -> None:
    out = rootless.ok(
        "run", "--rm", "--network", "none", *options, "host", "python3", "-c", SOCKETS
    )
    assert out.split() == ["EAFNOSUPPORT", "EAFNOSUPPORT"]
