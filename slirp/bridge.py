"""The router: a process in one network namespace with all bridges of a user, which lives as long as somebody uses it.

    client (a monitor, or a command)                      router
    hello ───────────────────────────────────────────►
        ◄── descriptors of its user and network namespace
    reserve ENDPOINT on NETWORKS ────────────────────►    addresses are chosen; the endpoint hangs on this connection
    attach + the container's network namespace ──────►    veth pairs, addresses, routes, names, rules
    outside + a helper's descriptors ────────────────►    the way out works
        ◄── event: the way out is wanted

An endpoint goes with the connection that reserved it, so a `kill -9` of its owner frees its addresses at once. When the
last connection goes, so does the router, and with it the helper that is its way out (process.py, lifeline). When the
router dies its clients still hold the namespaces: whichever sees it first makes a new router in them and all of them
tell it again what they have.

Here are the connections and the protocol. Who is on what is topology.py, what is done to the kernel wiring.py, names
are nameserver.py.
"""

from __future__ import annotations

import os
import select
import struct

from rootless import quickjson as json
from rootless.errors import Conflict, RootlessError
from rootless.linux import sockets as socket
from slirp import dns, firewall
from slirp.nameserver import NameServer
from slirp.topology import UPSTREAM, Endpoint, Topology
from slirp.wiring import Wiring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from slirp.aardvark import Aardvark

    Document = dict[str, Any]

    class Lock(Protocol):
        """What a client holds while it makes a router, or is on its way to one."""

        def acquire(self) -> bool: ...

        def release(self) -> None: ...


_MESSAGE = 1 << 20
_FDS = 64  # room for the descriptors of a message, in bytes


class Router:
    """The event loop. Runs in its user and network namespace; `serve` returns when nobody needs it any more."""

    __slots__ = (
        "listener", "userns", "netns", "nft", "lock", "poll", "clients", "topology", "wiring", "names", "outside",
        "rules", "resolver", "aardvark", "forwards",
    )  # fmt: skip

    def __init__(
        self,
        listener: socket.socket,
        userns: int,
        netns: int,
        nft: str,
        lock: Lock,
        aardvark: str = "",
        folder: str = "",
    ) -> None:
        """`aardvark`: the program that answers for members' names, with `folder` for its files; empty: we do."""
        self.listener = listener
        self.userns = userns
        self.netns = netns
        self.nft = nft
        self.lock = lock
        self.poll = select.poll()
        self.poll.register(listener, select.POLLIN)
        self.clients: dict[int, socket.socket] = {}
        self.topology = Topology()
        self.wiring = Wiring(netns)
        self.outside = Outside()
        self.rules = ""
        self.aardvark: Aardvark | None = None
        self.forwards: dict[tuple[str, ...], str] = {}  # lists of servers → where we stand for them
        if aardvark:
            from slirp.aardvark import Aardvark

            self.aardvark = Aardvark(aardvark, folder, self.poll)
            self.names = NameServer(self.poll, self._names_behind, dns.forwarded)
        else:
            self.names = NameServer(self.poll, self.topology.names_for)
        self.resolver = bool(aardvark) or dns.is_available()

    # --- loop ---

    def serve(self, settle_s: float, rest: Callable[[], None]) -> None:
        """Returns when nobody needs it; `rest` is called after each `settle_s` in which nothing has come up."""
        idle = False
        while True:
            waiting = self.names.timeout_s()
            timeout = settle_s if waiting is None else waiting
            if idle:
                timeout = min(timeout, 0.1)
            events = self.poll.poll(timeout * 1000)
            if not events and not idle and waiting is None:
                rest()
            for fd, _ in events:
                try:
                    self._handle(fd)
                except Exception:
                    # A router that dies of one bad event takes everybody's line along; whoever caused it loses his.
                    self._drop(fd)
            self.names.expire()
            idle = not self.clients
            # Whoever is on the way to us holds the lock; then there is a connection soon, or the lock is free again.
            if idle and self.lock.acquire():
                if not self._accept():
                    return
                self.lock.release()

    def _handle(self, fd: int) -> None:
        if fd == self.listener.fileno():
            self._accept()
        elif fd in self.clients:
            self._hear(fd)
        elif self.names.owns(fd):
            self.names.handle(fd)
        elif fd == self.outside.pidfd:
            self._lost_outside()
        elif self.aardvark is not None and fd == self.aardvark.pidfd:
            self.aardvark.revive()

    def _accept(self) -> bool:
        try:
            client, _ = self.listener.accept()
        except BlockingIOError:
            return False
        uid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid != os.getuid():
            client.close()  # the folder is private as well (security case 40)
            return False
        self.clients[client.fileno()] = client
        self.poll.register(client, select.POLLIN)
        return True

    def _hear(self, fd: int) -> None:
        client = self.clients[fd]
        fds: list[int] = []
        try:
            data, ancillary, _, _ = client.recvmsg(_MESSAGE, _FDS, socket.MSG_CMSG_CLOEXEC)
            fds = socket.descriptors(ancillary)
        except (ConnectionError, BlockingIOError):
            data = b""
        if not data:
            self._drop(fd)
            return
        try:
            reply = self._do(fd, json.loads(data), fds)
        except RootlessError as error:
            reply = {
                "error": error.message,
                "hint": error.hint,
                "conflict": isinstance(error, Conflict),
            }
        except OSError as error:
            reply = {"error": f"networks: {error.strerror or error}", "hint": "", "conflict": False}
        except Exception as error:
            reply = {
                "error": f"networks: {type(error).__name__}: {error}",
                "hint": "",
                "conflict": False,
            }
        finally:
            for one in fds:
                os.close(one)
        give = reply.pop("_fds", ())
        self._send(fd, reply, give)

    def _send(self, fd: int, message: Document, fds: tuple[int, ...] = ()) -> None:
        client = self.clients.get(fd)
        if client is None:
            return
        try:
            client.sendmsg([json.dumps(message).encode()], socket.rights(fds), socket.MSG_DONTWAIT)
        except OSError:
            self._drop(fd)

    def _drop(self, fd: int) -> None:
        """A client is gone: free what it had."""
        client = self.clients.pop(fd, None)
        if client is None:
            return
        self.poll.unregister(fd)
        client.close()
        gone = [endpoint for endpoint in self.topology.endpoints.values() if endpoint.owner == fd]
        for endpoint in gone:
            self._remove(endpoint)
        if gone:
            self._follow()
        if self.outside.forget(fd):
            self._want_outside()

    def _do(self, fd: int, request: Document, fds: list[int]) -> Document:
        kind = request["op"]
        if kind == "hello":
            return {"ok": True, "pid": os.getpid(), "_fds": (self.userns, self.netns)}
        if kind == "reserve":
            return self._reserve(fd, request)
        if kind == "attach":
            return self._attach(self.topology.endpoint(request["endpoint"]), fds[0])
        if kind == "detach":
            endpoint = self.topology.endpoints.get(request["endpoint"])
            if endpoint is not None:
                self._detach(endpoint)
            return {"ok": True}
        if kind == "connect":
            return self._connect(request, fds[0] if fds else -1)
        if kind == "disconnect":
            return self._disconnect(request)
        if kind == "reload":
            return self._reload(self.topology.endpoint(request["endpoint"]), fds[0])
        if kind == "outside":
            return self._take_outside(fd, request, fds)
        if kind == "network":
            return self._redefine(request["network"])
        if kind == "status":
            return self._status()
        raise RootlessError(f"networks: unknown request {kind!r}")

    def _status(self) -> Document:
        return {
            "ok": True,
            "outside": self.outside.pidfd >= 0,
            "endpoints": {
                name: self.topology.describe(endpoint)
                for name, endpoint in self.topology.endpoints.items()
            },
            "networks": sorted(self.topology.networks),
        }

    # --- endpoints ---

    def _reserve(self, fd: int, request: Document) -> Document:
        topology = self.topology
        name = request["endpoint"]
        old = topology.endpoints.get(name)
        if old is not None:
            if old.owner != fd and old.attached:
                raise Conflict(f"networks: {name[:12]} is connected already")
            self._remove(old)
        endpoint = Endpoint(name, request["names"], fd)
        endpoint.servers = request.get("servers") or []
        topology.endpoints[name] = endpoint
        try:
            for wish in request["networks"]:
                topology.join(endpoint, wish, old)
        except BaseException:
            self._remove(endpoint)
            raise
        if request.get("attached"):
            self._take_back(endpoint)
        reply = topology.describe(endpoint)
        if not self.resolver:
            reply["nameless"] = True
        if topology.leads_out(endpoint):
            reply.update(self.outside.duty(fd))
        return {"ok": True, **reply}

    def _take_back(self, endpoint: Endpoint) -> None:
        """After the death of the router before: everything is wired already."""
        endpoint.attached = True
        for member in endpoint.members.values():
            self.wiring.find(endpoint, member)
        self._follow()

    def _attach(self, endpoint: Endpoint, netns: int) -> Document:
        if endpoint.attached:
            self._detach(endpoint)
        self._wire_all(endpoint, netns)
        endpoint.attached = True
        self._follow()
        return {"ok": True, **self.topology.describe(endpoint)}

    def _wire_all(self, endpoint: Endpoint, netns: int, only: str = "") -> None:
        inside = self.wiring.enter(netns)
        try:
            for number, (name, member) in enumerate(endpoint.members.items()):
                if not only or name == only:
                    network = self.topology.networks[name]
                    self.wiring.wire(endpoint, member, network, netns, inside, number)
        finally:
            inside.close()

    def _reload(self, endpoint: Endpoint, netns: int) -> Document:
        """Everything anew, the addresses as they are."""
        self._wire_all(endpoint, netns)
        self.rules = ""
        self._follow()
        return {"ok": True, **self.topology.describe(endpoint)}

    def _detach(self, endpoint: Endpoint) -> None:
        """The container is gone, or goes: its interfaces and names."""
        for member in endpoint.members.values():
            self.wiring.unwire(member)
        endpoint.attached = False
        self._follow()

    def _remove(self, endpoint: Endpoint) -> None:
        self.topology.endpoints.pop(endpoint.name, None)
        for member in endpoint.members.values():
            self.wiring.unwire(member)
        self._drop_unused()

    def _drop_unused(self) -> None:
        """A bridge goes with its last member, after the name server that listens on it."""
        unused = self.topology.unused()
        if unused:
            self._follow_names()
        for network in unused:
            self.wiring.drop_bridge(network)

    def _connect(self, request: Document, netns: int) -> Document:
        endpoint = self.topology.endpoint(request["endpoint"])
        member = self.topology.join(endpoint, request["wish"])
        try:
            if endpoint.attached and netns >= 0:
                self._wire_all(endpoint, netns, member.network)
        except BaseException:
            self.wiring.unwire(member)
            del endpoint.members[member.network]
            self._drop_unused()
            raise
        self._follow()
        self._want_outside()
        return self._changed(endpoint)

    def _disconnect(self, request: Document) -> Document:
        endpoint = self.topology.endpoint(request["endpoint"])
        member = endpoint.members.get(request["network"])
        if member is None:
            raise RootlessError(f"is not connected to network {request['network']}")
        self.wiring.unwire(member)
        del endpoint.members[member.network]
        self._drop_unused()
        self._follow()
        return self._changed(endpoint)

    def _changed(self, endpoint: Endpoint) -> Document:
        """Tell the endpoint's owner what somebody else has changed."""
        description = self.topology.describe(endpoint)
        self._send(endpoint.owner, {"event": "changed", **description})
        return {"ok": True, **description}

    def _redefine(self, network: Document) -> Document:
        """A changed definition (`network update`): name servers take effect at once."""
        if network["name"] in self.topology.networks:
            self.topology.networks[network["name"]] = network
            self._follow()
        return {"ok": True}

    def _follow(self) -> None:
        """Rules and names follow what the topology says now."""
        script = self.topology.rules()
        if script != self.rules:
            firewall.apply(self.nft, script)
            self.rules = script
        self._follow_names()

    def _follow_names(self) -> None:
        gateways = self._reachable()
        if self.aardvark is None:
            self.names.listen(gateways)
            return
        from slirp.aardvark import documents

        files = documents(self.topology, gateways, self._forward)
        self.names.listen(
            {self._forward(one) for one in self.topology.endpoints.values() if one.attached}
        )
        self.aardvark.follow(files)

    def _forward(self, endpoint: Endpoint) -> str:
        """The address at which we ask the servers of an endpoint."""
        servers = self.topology.asked_for(endpoint)
        high, low = divmod(len(self.forwards), 250)
        return self.forwards.setdefault(servers, f"127.114.{110 + high}.{1 + low}")

    def _names_behind(self, _: str, address: str) -> list[dns.Names]:
        upstream = self.topology.upstream
        return [
            dns.Names(
                [
                    one
                    for server in servers
                    for one in (upstream if server == UPSTREAM else [server])
                ]
            )
            for servers, place in self.forwards.items()
            if place == address
        ]

    def _reachable(self) -> list[str]:
        """The gateways of the bridges that exist: a reserved network has none before its first guest."""
        return [gateway for gateway in self.topology.gateways() if self.wiring.has_address(gateway)]

    # --- the way out ---

    def _want_outside(self) -> None:
        """Ask one client to make the way out: only a process in the host's namespace can."""
        if self.outside.pidfd >= 0 or self.outside.asked >= 0:
            return
        for endpoint in self.topology.endpoints.values():
            if self.topology.leads_out(endpoint):
                self.outside.asked = endpoint.owner
                self._send(endpoint.owner, {"event": "make_outside"})
                return

    def _take_outside(self, fd: int, request: Document, fds: list[int]) -> Document:
        event: Document = {"event": "outside"}
        if request.get("error"):
            event["error"] = request["error"]
            if fd == self.outside.asked:
                self.outside.asked = -1
        elif self.outside.pidfd >= 0:
            return {"ok": True, "superfluous": True}
        else:
            self.outside.take(fds[0], fds[1])
            self.topology.upstream = request["dns"]
            self.names.offline(bool(request.get("offline")))
            self.poll.register(self.outside.pidfd, select.POLLIN)
        waiting, self.outside.waiting = self.outside.waiting, []
        for client in waiting:
            self._send(client, event)
        return {"ok": True}

    def _lost_outside(self) -> None:
        self.poll.unregister(self.outside.pidfd)
        self.outside.lose()
        self.topology.upstream = []
        self._want_outside()


class Outside:
    """The helper that is the namespace's way out, and who is to make one."""

    __slots__ = ("pidfd", "lifeline", "asked", "waiting")

    def __init__(self) -> None:
        self.pidfd = -1
        self.lifeline = -1
        self.asked = -1  # the client that is making it
        self.waiting: list[int] = []  # clients that want to know when it is there

    def duty(self, client: int) -> Document:
        """What a client with a network that leads out has to do: make it, wait for who does, or nothing."""
        if self.pidfd >= 0:
            return {}
        if self.asked < 0 or self.asked == client:
            self.asked = client
            return {"make_outside": True}
        self.waiting.append(client)
        return {"await_outside": True}

    def take(self, pidfd: int, lifeline: int) -> None:
        self.pidfd, self.lifeline = os.dup(pidfd), os.dup(lifeline)
        self.asked = -1

    def lose(self) -> None:
        os.close(self.pidfd)
        os.close(self.lifeline)
        self.pidfd = self.lifeline = -1

    def forget(self, client: int) -> bool:
        """A client is gone; whether it was the one that was asked."""
        if client in self.waiting:
            self.waiting.remove(client)
        if client != self.asked:
            return False
        self.asked = -1
        return True
