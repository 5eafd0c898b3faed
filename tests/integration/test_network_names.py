"""Names of containers on networks, and of everything else, by each resolver: ours, and aardvark-dns where it is wanted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian13, host
from tests.support.engine import REPOSITORY, Engine, command
from tests.support.traffic import CLIENT, digest, eventually, serve

pytestmark = pytest.mark.needs("userns", "subids", "tun", "nft")

_ON_DEBIAN_13 = 'VERSION_ID="13"' in Path("/etc/os-release").read_text()
_RESOLVERS = ("rootless", "aardvark-dns", *(() if _ON_DEBIAN_13 else ("aardvark-dns 1.14",)))


@pytest.fixture(params=_RESOLVERS)
def resolver(request: pytest.FixtureRequest, net: Engine, tmp_path: Path) -> Iterator[str]:
    """Who answers."""
    name, _, newer = str(request.param).partition(" ")
    settings = f'[network]\nresolver = "{name}"\n'
    if newer:
        folder = debian13.require()
        # Preferred unasked.
        settings = f'[engine]\nhelper_binaries_dir = ["{folder}"]\n'
    elif name == "aardvark-dns":
        host.require(name)
    (tmp_path / "resolver.conf").write_text(settings)
    net.env["CONTAINERS_CONF_OVERRIDE"] = str(tmp_path / "resolver.conf")
    yield str(request.param)
    net.clear()
    assert eventually(
        lambda: not _named(net, "rootless networks", "rootless names", "aardvark-dns")
    )
    del net.env["CONTAINERS_CONF_OVERRIDE"]


def _named(net: Engine, *words: str) -> list[int]:
    return [pid for pid, title in net.processes().items() if any(word in title for word in words)]


def _looked_up(net: Engine, container: str, name: str) -> list[str]:
    """The addresses of a name as a container sees it; none where it is unknown, which is another thing than no answer.

    With its domain, or the host's servers would be asked as well.
    """
    script = (
        "import socket, sys\n"
        "try: found = socket.getaddrinfo(sys.argv[1], 80, proto=socket.IPPROTO_TCP)\n"
        "except socket.gaierror as e: assert e.errno in (socket.EAI_NONAME, socket.EAI_NODATA), e; found = []\n"
        "print(*sorted({one[4][0] for one in found}))"
    )
    return net.ok("exec", container, "python3", "-Ic", script, f"{name}.dns.podman").split()


def test_names_on_a_network(net: Engine, resolver: str) -> None:
    net.ok("network", "create", "a")
    identity = serve(net, "web", "--network", "a:alias=front")
    for name in ("web", "front", "web.dns.podman", identity[:12]):
        out = net.ok(
            "run", "--rm", "--network", "a", "host", "python3", "-Ic", CLIENT, name, "7000"
        )
        assert out.split()[0] == digest(b"hello")
    assert (
        net("run", "--rm", "--network", "a", "host", "getent", "hosts", "nobody.dns.podman").code
        == 2
    )
    net.ok("rm", "-f", "-t0", "web")
    assert (
        net("run", "--rm", "--network", "a", "host", "getent", "hosts", "web.dns.podman").code == 2
    )


def test_records_follow_at_once(net: Engine, resolver: str) -> None:
    """Each is looked up as soon as the command is done, and not a second time."""
    net.ok("network", "create", "--subnet", "10.199.9.0/24", "--subnet", "fd99:9::/64", "a")
    net.ok("network", "create", "--internal", "--subnet", "10.199.10.0/24", "b")
    sleeper = ("host", "sleep", "300")
    net.ok("run", "-d", "--name", "c", "--network", "a:ip=10.199.9.5,ip6=fd99:9::5", *sleeper)
    net.ok("run", "-d", "--name", "d", "--network", "b:ip=10.199.10.6", *sleeper)
    assert _looked_up(net, "c", "c") == ["10.199.9.5", "fd99:9::5"]
    assert _looked_up(net, "c", "d") == []
    net.ok("network", "connect", "--alias", "guest", "--ip", "10.199.9.6", "a", "d")
    assert _looked_up(net, "c", "guest")[0] == "10.199.9.6"
    net.ok("stop", "-t0", "d")
    assert _looked_up(net, "c", "d") == []
    net.ok("start", "d")
    assert _looked_up(net, "c", "d")[0] == "10.199.9.6"
    net.ok("network", "disconnect", "b", "d")
    assert _looked_up(net, "d", "c") == ["10.199.9.5", "fd99:9::5"]
    net.ok("network", "disconnect", "a", "d")
    assert _looked_up(net, "c", "d") == []


def test_names_of_all_of_a_containers_networks(net: Engine, resolver: str) -> None:
    if resolver == "aardvark-dns" and not _ON_DEBIAN_13:
        return  # 1.4 looks for a name on one of its asker's networks
    net.ok("network", "create", "--subnet", "10.199.9.0/24", "a")
    net.ok("network", "create", "--internal", "--subnet", "10.199.10.0/24", "b")
    sleeper = ("host", "sleep", "300")
    net.ok("run", "-d", "--name", "c", "--network", "a:ip=10.199.9.5", *sleeper)
    net.ok("run", "-d", "--name", "d", "--network", "b:ip=10.199.10.6", *sleeper)
    net.ok("network", "connect", "--ip", "10.199.9.6", "a", "d")
    net.ok("network", "connect", "--ip", "10.199.10.5", "b", "c")
    for one in ("c", "d"):
        assert set(_looked_up(net, one, "c")) == {"10.199.9.5", "10.199.10.5"}
        assert set(_looked_up(net, one, "d")) == {"10.199.9.6", "10.199.10.6"}
    net.ok("network", "disconnect", "a", "d")
    assert _looked_up(net, "c", "d") == ["10.199.10.6"]
    net.ok("network", "disconnect", "b", "c")
    assert _looked_up(net, "c", "d") == []


def test_names_outlive_whoever_answers_for_them(net: Engine, resolver: str) -> None:
    """kill -9 of each of the processes, and of all at once: they are made anew, and none is left over."""
    net.ok("network", "create", "a")
    serve(net, "w", "--network", "a")
    serve(net, "v", "--network", "a")
    address = net.inspect("w")["NetworkSettings"]["Networks"]["a"]["IPAddress"]
    titles = ["rootless networks"]
    if resolver != "rootless":
        titles += ["rootless names", "aardvark-dns --config"]
    kinds = [(title,) for title in titles] + ([tuple(titles)] if len(titles) > 1 else [])
    for kind in kinds:
        before = {title: _named(net, title) for title in titles}
        assert all(len(one) == 1 for one in before.values()), net.processes()
        killed = [pid for title in kind for pid in before[title]]
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):  # the one before took it along
                os.kill(pid, signal.SIGKILL)

        def is_anew(killed: list[int] = killed) -> bool:
            now = [_named(net, title) for title in titles]
            return all(len(one) == 1 for one in now) and not {one[0] for one in now} & set(killed)

        assert eventually(is_anew, 30), net.processes()
        assert eventually(
            lambda: net("exec", "v", "getent", "ahostsv4", "w").out.startswith(address)
        )
    net.ok("kill", "--all")
    for pid in _named(net, *titles):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not _named(net, *titles)), net.processes()


DNS_SERVER = r"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    q, peer = s.recvfrom(4096)
    end = q.index(b"\0", 12) + 5
    if q[end - 4:end - 2] == b"\0\1":
        s.sendto(q[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + q[12:end] + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\xc0\0\2\x63", peer)
    else:
        s.sendto(q[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + q[12:end], peer)
"""


def test_other_names_are_asked_of_the_networks_servers(net: Engine, resolver: str) -> None:
    net.ok("network", "create", "--subnet", "10.199.8.0/24", "--dns", "10.199.8.53", "a")
    net.ok(
        "run",
        "-d",
        "--name",
        "ns",
        "--network",
        "a",
        "--ip",
        "10.199.8.53",
        "host",
        "python3",
        "-Ic",
        DNS_SERVER,
    )
    assert eventually(lambda: "ready" in net.ok("logs", "ns"))
    out = net.ok("run", "--rm", "--network", "a", "host", "getent", "ahostsv4", "www.example.org")
    assert out.split()[0] == "192.0.2.99"
    net.ok("network", "update", "--dns-drop", "10.199.8.53", "a")
    # --dns is where the networks' own server passes unknown names on: those of containers are still found.
    own = ("run", "--rm", "--network", "a", "--dns", "10.199.8.53", "host", "getent", "ahostsv4")
    assert net.ok(*own, "www.example.org").split()[0] == "192.0.2.99"
    assert net.ok(*own, "ns").split()[0] == "10.199.8.53"
    net.ok("network", "update", "--dns-add", "10.199.8.99", "a")
    assert net("run", "--rm", "--network", "a", "host", "getent", "hosts", "x.dns.podman").code == 2


def test_case_44_unknown_name_on_an_internal_network(net: Engine, resolver: str) -> None:
    """Unknown at once: nothing is passed on from there, not even a question."""
    net.ok("network", "create", "--internal", "a")
    script = (
        "import socket\n"
        "try: socket.getaddrinfo('secret.example.org', 80)\n"
        "except socket.gaierror as e: print(e.errno == socket.EAI_NONAME)\n"  # no answer: EAI_AGAIN
        "try: socket.create_connection(('198.51.100.1', 80), 1)\n"
        "except OSError as e: print(type(e).__name__, e.errno)\n"
    )
    out = net.ok("run", "--rm", "--network", "a", "host", "python3", "-Ic", script)
    assert out.splitlines() == ["True", "OSError 101"]
    # Orphans count as ours: for a moment that may be one of a test beside this one.
    assert eventually(lambda: not [one for one in net.processes().values() if "pasta" in one])


def test_unknown_name_where_the_host_has_no_way_out(
    net: Engine, resolver: str, tmp_path: Path
) -> None:
    """In a network namespace without anything, as on a machine whose cable is out: the name is unknown, and said so.

    An answer that does not come is another error, EAI_AGAIN.
    """
    script = (
        "import socket\n"
        "try: socket.getaddrinfo('www.example.org', 80)\n"
        "except socket.gaierror as e: print(e.errno == socket.EAI_NONAME)\n"
    )
    isolated = ("unshare", "-Urn", "sh", "-c", 'ip link set lo up; exec "$@"', "x")
    engine = Engine(
        program=[*isolated, *command(), "--root", f"{tmp_path}/s", "--runroot", f"{tmp_path}/r"]
    )
    engine.env["CONTAINERS_CONF_OVERRIDE"] = net.env["CONTAINERS_CONF_OVERRIDE"]
    try:
        engine.ok("network", "create", "a")
        out = engine.ok("run", "--rm", "--network", "a", "host", "python3", "-Ic", script)
        assert out == "True"
    finally:
        engine.close()


@contextlib.contextmanager
def _without(folder: Path, *missing: str) -> Iterator[Engine]:
    """The command on a machine that lacks one or both of what can answer."""
    for room in ("rootless", "slirp"):
        shutil.copytree(
            REPOSITORY / room, folder / room, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copytree(REPOSITORY / "config", folder / "config")
    for name, module in (("dnslib", "dns.py"), ("aardvark-dns", "aardvark.py")):
        if name in missing:
            source = folder / "slirp" / module
            for word in (f'find_spec("{name}"', f'find_program("{name}"'):
                text = source.read_text().replace(word, word.replace(name, "nobody_has_this"))
                source.write_text(text)
    start = "import sys; sys.path.append(sys.argv.pop(1)); from rootless.start import main; main()"
    engine = Engine(program=[sys.executable, "-I", "-S", "-c", start, str(folder)])
    try:
        yield engine
    finally:
        engine.clear()
        engine.close()


def test_names_without_any_resolver(tmp_path: Path) -> None:
    """The first container on a network is told as well, once, and runs."""
    with _without(tmp_path, "dnslib", "aardvark-dns") as engine:
        engine.ok("network", "create", "a")
        for _ in range(2):
            result = engine("run", "--rm", "--network", "a", "host", "true")
            assert result.code == 0, result
            assert "names of containers are not resolved" in result.err
            assert "dnslib" in result.err
        settings = tmp_path / "settings.conf"
        settings.write_text('[network]\nresolver = "aardvark-dns"\n')
        engine.env["CONTAINERS_CONF_OVERRIDE"] = str(settings)
        assert eventually(lambda: not _named(engine, "rootless networks"))
        said = engine.fails("run", "--rm", "--network", "a", "host", "true", code=125)
        assert "aardvark-dns, which containers.conf asks for, is not installed" in said


@pytest.mark.needs("aardvark-dns")
def test_names_without_dnslib(tmp_path: Path) -> None:
    with _without(tmp_path, "dnslib") as engine:
        engine.ok("network", "create", "a")
        serve(engine, "w", "--network", "a")
        assert _looked_up(engine, "w", "w")
        assert _named(engine, "aardvark-dns --config")
