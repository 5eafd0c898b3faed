"""Networks as they are used: services that find each other by name, what images expose, the helpers' own options."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from tests.support.engine import Engine
from tests.support.traffic import (
    CLIENT,
    digest,
    eventually,
    exchange,
    free_port,
    own_addresses,
    router,
    serve,
)

pytestmark = pytest.mark.needs("userns", "subids", "tun")

# A database: one statement per connection, its rows as lines.
DATABASE = r"""
import socketserver, sqlite3
db = sqlite3.connect(":memory:")
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        with db:
            rows = db.execute(self.rfile.readline().decode()).fetchall()
        self.wfile.write("".join(f"{'|'.join(map(str, row))}\n" for row in rows).encode())
with socketserver.TCPServer(("", 5432), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
"""
# A web application: /STATEMENT is asked of the database `db`, found by name for each request.
WEB = r"""
import http.server, socket, urllib.parse
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with socket.create_connection(("db", 5432), 5) as one:
            one.sendall(urllib.parse.unquote(self.path[1:]).encode() + b"\n")
            body = one.makefile("rb").read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
with http.server.ThreadingHTTPServer(("", 80), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
"""
BROWSER = (
    "import sys, urllib.parse, urllib.request as u\n"
    "print(u.urlopen('http://' + sys.argv[1] + '/' + urllib.parse.quote(sys.argv[2]), timeout=10).read().decode())"
)


def start(net: Engine, name: str, program: str, *options: str) -> None:
    net.ok("run", "-d", "--name", name, *options, "host", "python3", "-Ic", program)
    assert eventually(lambda: "ready" in net.ok("logs", name)), net("logs", name)


@pytest.mark.needs("nft")
def test_web_server_and_database_by_name(net: Engine) -> None:
    """A browser asks the web server, here and in there, which asks the database; the database moves meanwhile."""
    net.ok("network", "create", "shop")
    port = free_port()
    start(net, "db", DATABASE, "--network", "shop")
    start(net, "web", WEB, "--network", "shop", "-p", f"127.0.0.1:{port}:80")

    def browse(statement: str) -> str:
        return net.ok(
            "run", "--rm", "--network", "shop", "host", "python3", "-Ic", BROWSER, "web", statement
        )

    assert browse("create table goods (name, price)") == ""
    browse("insert into goods values ('tea', 3), ('cake', 4)")
    assert browse("select * from goods order by price").split() == ["tea|3", "cake|4"]
    done = subprocess.run(
        ["python3", "-Ic", BROWSER, f"127.0.0.1:{port}", "select sum(price) from goods"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.strip() == "7"
    before = net.inspect("db")["NetworkSettings"]["Networks"]["shop"]["IPAddress"]
    net.ok("rm", "-f", "-t0", "db")
    start(net, "db", DATABASE, "--network", f"shop:ip={before.rpartition('.')[0]}.99")
    assert browse("select 'another address'").strip() == "another address"


@pytest.mark.needs("nft")
def test_address_that_moves_to_another_container(net: Engine) -> None:
    """Its neighbours have just talked to the one before, by an address of a card that is gone."""
    net.ok("network", "create", "--subnet", "10.199.6.0/24", "--subnet", "fd99:6::/64", "a")
    net.ok("run", "-d", "--name", "c", "--network", "a", "host", "sleep", "300")
    for _ in range(2):
        serve(net, "w", "--network", "a:ip=10.199.6.9,ip6=fd99:6::9")
        for address in ("10.199.6.9", "fd99:6::9"):
            out = net.ok("exec", "c", "python3", "-Ic", CLIENT, address, "7000")
            assert out.split()[0] == digest(b"hello")
        net.ok("rm", "-f", "-t0", "w")


@pytest.mark.parametrize("network", ["pasta", "podman"])
def test_exposed_ports_of_an_image(net: Engine, busybox: str, network: str) -> None:
    """-P: every port that the image names gets one of the host's, the image's and --expose's."""
    net.ok("create", "--name", "made", busybox)
    net.ok("commit", "-q", "--change", "EXPOSE 8080 53/udp", "made", "localhost/exposing:1")
    serving = "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 8080 -h /w"
    net.ok(
        "run", "-d", "--name", "w", "--network", network, "-P", "--expose", "9000-9001",
        "localhost/exposing:1", "sh", "-c", serving,
    )  # fmt: skip
    ports = dict(line.split(" -> ") for line in net.ok("port", "w").splitlines())
    assert sorted(ports) == ["53/udp", "8080/tcp", "9000/tcp", "9001/tcp"]
    assert len({*ports.values()}) == 4
    port = int(ports["8080/tcp"].removeprefix("0.0.0.0:"))
    assert 1024 < port < 65536

    def page() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as one:
                one.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return one.makefile("rb").read()
        except OSError:
            return b""

    assert eventually(lambda: page().endswith(b"hello\n"))
    net.ok("rm", "-f", "-t0", "w", "made")
    net.ok("rmi", "localhost/exposing:1")


def test_port_says_what_is_not_published(net: Engine) -> None:
    net.ok("run", "-d", "--name", "w", "-p", "127.0.0.1::80", "host", "sleep", "300")
    net.ok("run", "-d", "--name", "n", "host", "sleep", "300")
    for wanted in ("99", "80/udp"):
        message = net.fails("port", "w", wanted)
        assert f'failed to find published port "{wanted}"' in message
    assert net.ok("port", "n") == net.ok("port", "n", "80") == ""
    net.fails("port", "w", "abc")
    net.ok("stop", "-t0", "w")
    assert net.ok("port", "w") == ""


def test_prune_filters(net: Engine) -> None:
    net.ok("network", "create", "--label", "kind=old", "--label", "keep", "a")
    net.ok("network", "create", "--label", "kind=old", "b")
    net.ok("network", "create", "c")
    assert net.ok("network", "prune", "-f", "--filter", "until=1h") == ""
    assert net.ok("network", "prune", "-f", "--filter", "label=kind=new") == ""
    out = net.ok("network", "prune", "-f", "--filter", "label=kind=old", "--filter", "label!=keep")
    assert out == "b"
    assert "invalid network filter" in net.fails("network", "prune", "-f", "--filter", "name=a")
    net.ok("create", "--network", "c", "host", "true")
    assert net.ok("network", "prune", "-f") == "a"
    net.ok("rm", "--all")
    assert net.ok("network", "prune", "-f", "--filter", "until=2100-01-01") == "c"


@pytest.mark.needs("nft")
def test_reload_makes_rules_and_interfaces_anew(net: Engine) -> None:
    """After somebody has flushed what is not his: `network reload`, as after a firewall's restart."""
    port = free_port()
    net.ok("network", "create", "a")
    identity = serve(net, "w", "--network", "a", "-p", f"127.0.0.1:{port}:7000")
    before = net.inspect("w")["NetworkSettings"]["Networks"]["a"]
    inside = ("unshare", "--rootless-netns", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
    net.ok(*inside, "nft", "flush", "ruleset")
    net.ok("exec", "--privileged", "w", "ip", "link", "set", "eth0", "down")
    assert net("run", "--rm", "--network", "a", "host", "python3", "-Ic", CLIENT, "w", "7000").code
    assert net.ok("network", "reload", "w") == identity
    assert "table" in net.ok(*inside, "nft", "list", "ruleset")
    assert net.inspect("w")["NetworkSettings"]["Networks"]["a"] == before
    assert exchange("127.0.0.1", port)[:1] == [digest(b"hello")]
    out = net.ok("run", "--rm", "--network", "a", "host", "python3", "-Ic", CLIENT, "w", "7000")
    assert out.split()[0] == digest(b"hello")
    assert net.ok("network", "reload", "--all") == identity
    net.ok("run", "-d", "--name", "p", "host", "sleep", "300")
    assert "invalid network mode" in net.fails("network", "reload", "p")


SHOW = "ip -4 -o addr show; ip -4 route; cat /etc/resolv.conf; cat /proc/net/if_inet6; ip -o link"


def test_options_of_slirp4netns(net: Engine, version: str) -> None:
    out = net.ok(
        "run", "--rm", "--network", "slirp4netns:mtu=1400,cidr=10.9.0.0/24,enable_ipv6=false,outbound_addr=127.0.0.1",
        "host", "sh", "-c", SHOW,
    )  # fmt: skip
    assert "10.9.0.100/24" in out
    assert "default via 10.9.0.2 dev tap0" in out
    assert "nameserver 10.9.0.3" in out
    assert "mtu 1400" in out
    assert "fd00" not in out
    out = net.ok(
        "run", "--rm", "--network", "slirp4netns:enable_ipv6=true", "host", "sh", "-c", SHOW
    )
    assert "mtu 65520" in out
    assert "fd00" in out
    for handler, seen in (("slirp4netns", "10.0.2.2"), ("rootlesskit", "10.0.2.100")):
        port = free_port()
        network = f"slirp4netns:port_handler={handler}"
        serve(net, handler, "--network", network, "-p", f"127.0.0.1:{port}:7000")
        answer = eventually(lambda port=port: exchange("127.0.0.1", port))  # type: ignore[misc]
        assert answer[0] == digest(b"hello")
        assert answer[2] == seen
    for wrong in (
        "bogus=1",
        "mtu=abc",
        "cidr=10.0.0.0/99",
        "port_handler=x",
        "outbound_addr=nowhere0",
    ):
        message = net.fails("run", "--rm", "--network", f"slirp4netns:{wrong}", "host", "true")
        assert wrong.partition("=")[0] in message


def test_options_of_pasta(net: Engine, version: str) -> None:
    out = net.ok(
        "run", "--rm", "--network", "pasta:-a,10.9.9.9,-n,24,-g,10.9.9.1,--mtu,1300,--ipv4-only,-I,tap7",
        "host", "sh", "-c", f"{SHOW}; cat /etc/hosts",
    )  # fmt: skip
    assert "tap7" in out
    assert "10.9.9.9/24" in out
    assert "default via 10.9.9.1 dev tap7" in out
    assert "mtu 1300" in out
    assert "nameserver 169.254.1.1" in out
    assert "10.9.9.9\t" in out
    # Ports of the host's loopback on the container's own, as asked for.
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reach = (
            f"import socket; socket.create_connection(('127.0.0.1', {port}), 5); print('reached')"
        )
        out = net.ok(
            "run", "--rm", "--network", f"pasta:-T,{port}", "host", "python3", "-Ic", reach
        )
        assert out == "reached"
    message = net.fails("run", "--rm", "--network", "pasta:--bogus", "host", "true")
    assert "unrecognized option '--bogus'" in message
    assert "Usage" not in message
    message = net.fails("run", "--rm", "--network", "pasta:--netns,/x", "host", "true")
    assert "pasta option --netns is the engine's own" in message


def test_none_leaves_names_alone(net: Engine, busybox: str) -> None:
    """As with Podman: no name server, and the host name on the loopback."""
    options = ("run", "--rm", "--network", "none", "--hostname", "box", "--name", "w", busybox)
    assert net(*options, "test", "-e", "/etc/resolv.conf").code == 1
    hosts = net.ok("run", "--add-host", "up:host-gateway", *options[1:], "cat", "/etc/hosts")
    assert "127.0.0.1\tbox w" in hosts
    for own in [one for one in own_addresses() if ":" not in one]:
        assert f"{own}\tup" in hosts
        assert f"{own}\thost.containers.internal" in hosts


def test_the_host_by_name(net: Engine) -> None:
    """host.containers.internal and host-gateway, by any network where the host can be reached."""
    settings = net.folder / "address.conf"
    settings.write_text('[containers]\nhost_containers_internal_ip = "192.0.2.77"\n')
    for network in ("pasta", "slirp4netns", "podman"):
        out = net.ok(
            "run", "--rm", "--network", network, "--add-host", "up:host-gateway", "host", "cat", "/etc/hosts",
            env={"CONTAINERS_CONF_OVERRIDE": str(settings)},
        )  # fmt: skip
        assert "192.0.2.77\thost.containers.internal host.docker.internal" in out
        assert "192.0.2.77\tup" in out


def test_killed_router_and_way_out_at_once(net: Engine) -> None:
    """Names and ports go on after the two processes of the networks died in one moment."""
    port = free_port()
    net.ok("network", "create", "a")
    serve(net, "w", "--network", "a", "-p", f"127.0.0.1:{port}:7000")
    before = router(net)
    outside = [pid for pid, title in net.processes().items() if "--config-net" in title]
    assert before
    assert len(outside) == 1
    for pid in (before, *outside):
        os.kill(pid, 9)
    assert eventually(lambda: router(net) not in (0, before))
    assert eventually(
        lambda: [pid for pid, title in net.processes().items() if "--config-net" in title]
    )
    assert exchange("127.0.0.1", port)[1] == "5"
    out = net.ok("run", "--rm", "--network", "a", "host", "python3", "-Ic", CLIENT, "w", "7000")
    assert out.split()[0] == digest(b"hello")
