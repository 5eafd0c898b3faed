"""Real traffic for tests of networks: a server in a container, and clients of it here and in there."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from typing import Any

from tests.support.engine import Engine

# Serves TCP (answers with what it got, hashed, once the other side has said its all) and UDP (echo with the asker's
# address), on IPv4 and IPv6.
SERVER = r"""
import hashlib, os, selectors, socket, sys
port = int(sys.argv[1])
sel = selectors.DefaultSelector()
tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=2048)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
udp.bind(("::", port))
state = {}
def accept(s):
    c, peer = s.accept()
    state[c] = [hashlib.sha256(), 0, peer[0].removeprefix("::ffff:")]
    sel.register(c, selectors.EVENT_READ, read)
def read(c):
    data = c.recv(1 << 20)
    h = state[c]
    if data:
        h[0].update(data); h[1] += len(data)
        return
    c.sendall(f"{h[0].hexdigest()} {h[1]} {h[2]}\n".encode())
    sel.unregister(c); c.close(); del state[c]
def echo(s):
    data, peer = s.recvfrom(65535)
    s.sendto(peer[0].removeprefix("::ffff:").encode() + b" " + data, peer)
sel.register(tcp, selectors.EVENT_READ, accept)
sel.register(udp, selectors.EVENT_READ, echo)
print("ready", flush=True)
while True:
    for key, _ in sel.select():
        try: key.data(key.fileobj)
        except OSError: pass
"""
CLIENT = r"""
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
with socket.create_connection((host, port), 3) as c:
    c.sendall(b"hello"); c.shutdown(socket.SHUT_WR)
    print(c.makefile().read().strip())
"""


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def eventually(what: Callable[[], Any], patience_s: float = 10) -> Any:
    """The first true value of `what`, which is asked again until then."""
    deadline = time.monotonic() + patience_s
    while True:
        value = what()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.02)


def serve(engine: Engine, name: str, *options: str, port: int = 7000) -> str:
    """A server container that answers on `port` inside."""
    identity = engine.ok(
        "run", "-d", "--name", name, *options, "host", "python3", "-Ic", SERVER, str(port)
    )
    assert eventually(lambda: "ready" in engine.ok("logs", name)), engine("logs", name)
    return identity


def exchange(address: str, port: int, data: bytes = b"hello", timeout_s: float = 10) -> list[str]:
    """Send, half-close, and read the answer: [hash, length, the address that the server saw]."""
    with socket.create_connection((address, port), timeout_s) as one:
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := one.recv(4096):
            answer += chunk
    return answer.decode().split()


def ask(address: str, port: int, data: bytes = b"ping") -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.settimeout(5)
        one.connect((address, port))
        one.send(data)
        return one.recv(4096).decode()


def answers(port: int) -> bool:
    """Whether the server of `serve` answers on a port of the host's loopback."""
    try:
        return exchange("127.0.0.1", port)[1:2] == ["5"]
    except OSError:
        return False


def refuses(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return True
    return False


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def router(engine: Engine) -> int:
    """The router's pid; 0 where there is none."""
    for pid, title in engine.processes().items():
        if title.startswith("rootless networks"):
            return pid
    return 0


def own_addresses() -> list[str]:
    """This host's addresses by which strangers would reach it, one of each family that it has."""
    found = []
    for family, far in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            try:
                one.connect((far, 9))
            except OSError:
                continue
            address = one.getsockname()[0]
            if address not in ("127.0.0.1", "::1"):
                found.append(address)
    return found
