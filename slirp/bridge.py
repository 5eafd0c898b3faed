"""The router: a process in one network namespace with all bridges of a user, which lives as long as somebody uses it.

    client (a monitor, or a command)                      router
    hello ───────────────────────────────────────────►
        ◄── descriptors of its user and network namespace
    reserve ENDPOINT on NETWORKS ────────────────────►    addresses are chosen; the endpoint hangs on this connection
    attach + the container's network namespace ──────►    veth pairs, addresses, routes, names, rules
    ports: by which interface published ports come ──►    routing and translation for them
    outside + a helper's descriptors ────────────────►    the way out works
        ◄── event: the way out is wanted

An endpoint goes with the connection that reserved it, so a `kill -9` of its owner frees its addresses at once. When the
last connection goes, so does the router, and with it the helper that is its way out (process.py, lifeline). When the
router dies its clients still hold the namespaces: whichever sees it first makes a new router in them and all of them
tell it again what they have.

Nothing here knows what a container is: endpoints are opaque names, networks are their definitions as Podman writes
them.
"""

from __future__ import annotations

import errno
import os
import select
import struct

from rootless import quickjson as json
from rootless.errors import Conflict, RootlessError
from rootless.linux import sockets as socket
from rootless.linux.sched import CLONE_NEWNET, setns
from slirp import dns, firewall
from slirp.ipam import Subnet, allocate
from slirp.netlink import Netlink
from slirp.ports import PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from slirp.process import Helper

    Document = dict[str, Any]

    class Lock(Protocol):
        """What a client holds while it makes a router, or is on its way to one."""

        def acquire(self) -> bool: ...

        def release(self) -> None: ...


_MESSAGE = 1 << 20
_FDS = 64  # room for the descriptors of a message, in bytes
_DOOR_TABLE = 1000  # routing tables and marks of doors begin here
_MTU = 65520  # what pasta gives its interface: a bridge behind it should not need smaller packets
_METRIC = 100
DNS_PORT = 53


class Member:
    """An endpoint's place in one network."""

    __slots__ = ("network", "interface", "mac", "addresses", "aliases", "veth")

    def __init__(
        self,
        network: str,
        interface: str,
        mac: str,
        addresses: list[tuple[str, int, str]],
        aliases: list[str],
    ) -> None:
        self.network = network
        self.interface = interface  # inside the container
        self.mac = mac
        self.addresses = addresses  # (address, prefix length, gateway or "")
        self.aliases = aliases
        self.veth = ""  # our end, once attached

    def to_json(self) -> Document:
        return {
            "interface": self.interface,
            "mac": self.mac,
            "addresses": [list(entry) for entry in self.addresses],
            "aliases": self.aliases,
        }


class Endpoint:
    """What a client reserved."""

    __slots__ = (
        "name",
        "names",
        "members",
        "forwards",
        "door",
        "relay",
        "servers",
        "owner",
        "mark",
        "attached",
    )

    def __init__(self, name: str, names: list[str], owner: int, mark: int) -> None:
        self.name = name
        self.names = names
        self.members: dict[str, Member] = {}
        self.forwards: list[Document] = []
        self.door = ""
        self.relay: Helper | None = None
        self.servers: list[str] = []  # its own choice of where unknown names are asked
        self.owner = owner
        self.mark = mark
        self.attached = False


class Router:
    """State and event loop. Runs in its user and network namespace; `serve` returns when nobody needs it any more."""

    def __init__(
        self, listener: socket.socket, userns: int, netns: int, nft: str, lock: Lock
    ) -> None:
        self.listener = listener
        self.userns = userns
        self.netns = netns
        self.nft = nft
        self.lock = lock
        self.netlink = Netlink()
        self.clients: dict[int, socket.socket] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.networks: dict[str, Document] = {}
        self.last: dict[str, str] = {}  # subnet → the address given out last
        self.outside_pidfd = -1
        self.outside_lifeline = -1
        self.outside_dns: list[str] = []
        self.outside_asked = -1  # the client that has been asked to make the way out
        self.waiting: list[int] = []  # clients that want to know when it is there
        self.dns_sockets: dict[int, tuple[socket.socket, str]] = {}
        self.upstream = dns.Upstream()
        self.rules = ""
        self.resolver: bool | None = None  # whether names can be answered; None: not tried yet
        self.poll = select.poll()
        self.poll.register(listener, select.POLLIN)

    # --- loop ---

    def serve(self) -> None:
        self._prepare_namespace()
        idle = False
        while True:
            deadline = self.upstream.next_deadline()
            timeout: float | None = (
                None if deadline is None else max(0.0, deadline - dns.now()) * 1000
            )
            if idle:
                timeout = 100 if timeout is None else min(timeout, 100)
            if self.resolver is None and any(one.attached for one in self.endpoints.values()):
                timeout = 0
            events = self.poll.poll(timeout)
            if timeout == 0 and not events and self.resolver is None:
                # Nobody waits for us just now, and the first question should not wait for this.
                self.resolver = dns.is_available()
            for fd, _ in events:
                try:
                    self._handle(fd)
                except Exception:
                    # A router that dies of one bad event takes everybody's line along; whoever caused it loses his.
                    self._drop(fd)
            for fd in self.upstream.expire(dns.now()):
                self.poll.unregister(fd)
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
        elif fd in self.dns_sockets:
            self._answer_name(fd)
        elif self.upstream.owns(fd):
            following = self.upstream.receive(fd)
            if following != fd:
                self._unregister(fd)
                if following >= 0:
                    self.poll.register(following, select.POLLIN)
        elif fd == self.outside_pidfd:
            self._lost_outside()

    def _unregister(self, fd: int) -> None:
        try:
            self.poll.unregister(fd)
        except KeyError:
            pass

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
        self._unregister(fd)
        client.close()
        gone = [endpoint for endpoint in self.endpoints.values() if endpoint.owner == fd]
        for endpoint in gone:
            self._remove(endpoint)
        if gone:
            self._update_rules()
        if fd in self.waiting:
            self.waiting.remove(fd)
        if fd == self.outside_asked:
            self.outside_asked = -1
            self._want_outside()

    def _do(self, fd: int, request: Document, fds: list[int]) -> Document:
        kind = request["op"]
        if kind == "hello":
            return {"ok": True, "pid": os.getpid(), "_fds": (self.userns, self.netns)}
        if kind == "reserve":
            return self._reserve(fd, request)
        if kind == "attach":
            return self._attach(self._endpoint(request), fds[0])
        if kind == "detach":
            endpoint = self.endpoints.get(request["endpoint"])
            if endpoint is not None:
                self._detach(endpoint)
            return {"ok": True}
        if kind == "connect":
            return self._connect(request, fds[0] if fds else -1)
        if kind == "disconnect":
            return self._disconnect(request, fds[0] if fds else -1)
        if kind == "reload":
            return self._reload(self._endpoint(request), fds[0])
        if kind == "door":
            return self._open_door(
                self._endpoint(request), request["interface"], bool(request.get("relay"))
            )
        if kind == "outside":
            return self._take_outside(fd, request, fds)
        if kind == "network":
            return self._redefine(request["network"])
        if kind == "status":
            return self._status()
        raise RootlessError(f"networks: unknown request {kind!r}")

    def _endpoint(self, request: Document) -> Endpoint:
        endpoint = self.endpoints.get(request["endpoint"])
        if endpoint is None:
            raise RootlessError(f"networks: nothing is reserved for {request['endpoint']}")
        return endpoint

    def _status(self) -> Document:
        return {
            "ok": True,
            "outside": self.outside_pidfd >= 0,
            "endpoints": {
                name: self._describe(endpoint) for name, endpoint in self.endpoints.items()
            },
            "networks": sorted(self.networks),
        }

    # --- the namespace ---

    def _prepare_namespace(self) -> None:
        loopback = self.netlink.link("lo")
        if loopback is not None and not loopback.is_up:
            self.netlink.set_up(loopback.index)
        for name, value in (
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            # Answers to what came in by a door leave by another route than their packets' source suggests.
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            # What the host sends to its own loopback reaches a container through ours.
            ("ipv4/conf/all/route_localnet", "1"),
        ):
            _sysctl(name, value)

    def _bridge(self, network: Document) -> int:
        """The index of a network's bridge, made where it is missing."""
        name = network["network_interface"]
        link = self.netlink.link(name)
        if link is not None:
            return link.index
        vlan = int(network.get("options", {}).get("vlan", 0))
        try:
            self.netlink.add_bridge(name, _mtu(network), vlan=bool(vlan))
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                what = "VLAN filtering" if vlan else "bridges"
                raise RootlessError(
                    f"network {network['name']}: this kernel has no {what}"
                ) from error
            raise
        link = self.netlink.link(name)
        if link is None:
            raise RootlessError(f"network {network['name']}: its bridge {name} vanished")
        for subnet in network.get("subnets") or ():
            gateway = subnet.get("gateway")
            if gateway and gateway != "0.0.0.0":
                self.netlink.add_address(link.index, gateway, Subnet(subnet["subnet"]).prefix)
        if vlan:
            self.netlink.set_vlan(link.index, vlan, bridge=True)
        self.netlink.set_up(link.index)
        return link.index

    # --- endpoints ---

    def _reserve(self, fd: int, request: Document) -> Document:
        name = request["endpoint"]
        old = self.endpoints.get(name)
        if old is not None:
            if old.owner != fd and old.attached:
                raise Conflict(f"networks: {name[:12]} is connected already")
            self._remove(old)
        endpoint = Endpoint(name, request["names"], fd, self._free_mark())
        endpoint.servers = request.get("servers") or []
        self.endpoints[name] = endpoint
        try:
            for wish in request["networks"]:
                self._join(endpoint, wish, old)
            endpoint.forwards = self._choose_inner(request.get("ports") or [])
        except BaseException:
            self._remove(endpoint)
            raise
        if request.get("attached"):
            # After the death of the router before: everything is wired already.
            endpoint.attached = True
            for member in endpoint.members.values():
                member.veth = _veth_name(endpoint, member)
            self._update_names()
            if request.get("door"):
                self._open_door(endpoint, request["door"], bool(request.get("relay")))
            else:
                self._update_rules()
        reply = self._describe(endpoint)
        if self.resolver is False:
            reply["nameless"] = True
        outside = any(not self.networks[name].get("internal") for name in endpoint.members)
        if outside and self.outside_pidfd < 0:
            if self.outside_asked < 0 or self.outside_asked == fd:
                self.outside_asked = fd
                reply["make_outside"] = True
            else:
                self.waiting.append(fd)
                reply["await_outside"] = True
        return {"ok": True, **reply}

    def _free_mark(self) -> int:
        used = {endpoint.mark for endpoint in self.endpoints.values()}
        mark = 1
        while mark in used:
            mark += 1
        return mark

    def _choose_inner(self, ports: list[Document]) -> list[Document]:
        """Give each published port its own number in our namespace, so that two containers never share one."""
        used = {
            (forward["protocol"], forward["inner"] + step)
            for endpoint in self.endpoints.values()
            for forward in endpoint.forwards
            for step in range(forward["range"])
        }
        chosen = []
        for port in ports:
            first = int(port.get("inner") or port["host_port"])
            count = int(port["range"])
            while any((port["protocol"], first + step) in used for step in range(count)):
                first = first + 1 if first + count < 65535 else 1024
            used |= {(port["protocol"], first + step) for step in range(count)}
            chosen.append({**port, "inner": first})
        return chosen

    def _join(self, endpoint: Endpoint, wish: Document, before: Endpoint | None = None) -> Member:
        """Choose an endpoint's addresses in a network: those it had before the restart, where it had some."""
        network = wish["network"]
        label = network["name"]
        self.networks[label] = network
        if label in endpoint.members:
            raise Conflict(f"is already connected to network {label}")
        taken = {
            address: holder.name
            for holder in self.endpoints.values()
            for member in holder.members.values()
            for address, _, _ in member.addresses
        }
        wanted = [str(wish[key]) for key in ("ip", "ip6") if wish.get(key)]
        addresses = []
        for entry in network.get("subnets") or ():
            subnet = Subnet(entry["subnet"])
            gateway = entry.get("gateway") or ""
            given = next((address for address in wanted if address in subnet), "")
            if given:
                wanted.remove(given)
                if given in taken and taken[given] != endpoint.name:
                    raise Conflict(
                        f"IPAM error: requested ip address {given} is already allocated to container ID {taken[given]}"
                    )
                if given == gateway:
                    raise Conflict(
                        f"IPAM error: requested ip address {given} is the gateway of network {label}"
                    )
                address = given
            elif (network.get("ipam_options") or {}).get("driver") == "none":
                continue
            else:
                lease = entry.get("lease_range") or {}
                kept = before.members.get(label) if before is not None else None
                earlier = [one for one, _, _ in kept.addresses if one in subnet] if kept else []
                try:
                    address = (
                        earlier[0]
                        if earlier and earlier[0] not in taken
                        else allocate(
                            subnet,
                            {*taken, gateway},
                            self.last.get(entry["subnet"], ""),
                            lease.get("start_ip", ""),
                            lease.get("end_ip", ""),
                        )
                    )
                except ValueError as error:
                    raise Conflict(f"IPAM error: network {label}: {error}") from None
                self.last[entry["subnet"]] = address
            addresses.append((address, subnet.prefix, gateway))
        if wanted:
            raise Conflict(f"requested static ip {wanted[0]} not in any subnet on network {label}")
        used = {member.interface for member in endpoint.members.values()}
        interface = wish.get("interface") or next(
            f"eth{number}" for number in range(1000) if f"eth{number}" not in used
        )
        if interface in used:
            raise Conflict(
                f"interface {interface} is used by another network of the same container"
            )
        mac = wish.get("mac") or _random_mac()
        member = Member(label, interface, mac, addresses, list(wish.get("aliases") or []))
        endpoint.members[label] = member
        return member

    def _attach(self, endpoint: Endpoint, netns: int) -> Document:
        if endpoint.attached:
            self._detach(endpoint)
        inside = self._enter(netns)
        try:
            for number, member in enumerate(endpoint.members.values()):
                self._wire(endpoint, member, netns, inside, number)
        finally:
            inside.close()
        endpoint.attached = True
        self._update_names()
        self._update_rules()
        return {"ok": True, **self._describe(endpoint)}

    def _enter(self, netns: int) -> Netlink:
        """A socket into a container's namespace."""
        setns(netns, CLONE_NEWNET)
        try:
            # No autoconfiguration: its addresses are the ones we give.
            _sysctl("ipv6/conf/default/accept_ra", "0")
            inside = Netlink()
            loopback = inside.link("lo")
            if loopback is not None and not loopback.is_up:
                inside.set_up(loopback.index)
            return inside
        finally:
            setns(self.netns, CLONE_NEWNET)

    def _wire(
        self, endpoint: Endpoint, member: Member, netns: int, inside: Netlink, number: int
    ) -> None:
        network = self.networks[member.network]
        bridge = self._bridge(network)
        member.veth = _veth_name(endpoint, member)
        old = self.netlink.link(member.veth)
        if old is not None:
            self.netlink.delete_link(old.index)
        self.netlink.add_veth(
            member.veth, bridge, _mtu(network), member.interface, netns, member.mac
        )
        options = network.get("options") or {}
        if options.get("vlan"):
            link = self.netlink.link(member.veth)
            if link is not None:
                self.netlink.set_vlan(link.index, int(options["vlan"]))
        link = inside.link(member.interface)
        if link is None:
            raise RootlessError(f"network {member.network}: interface {member.interface} vanished")
        for address, prefix, _ in member.addresses:
            inside.add_address(link.index, address, prefix)
        inside.set_up(link.index)
        metric = int(options.get("metric") or _METRIC) + number
        if not network.get("internal") and options.get("no_default_route") not in ("true", "1"):
            for address, _, gateway in member.addresses:
                if gateway:
                    everything = "::/0" if ":" in address else "0.0.0.0/0"
                    inside.add_route(everything, gateway=gateway, index=link.index, metric=metric)
        for route in network.get("routes") or ():
            inside.add_route(
                route["destination"],
                gateway=route["gateway"],
                index=link.index,
                metric=int(route.get("metric") or metric),
            )

    def _detach(self, endpoint: Endpoint) -> None:
        """The container is gone, or goes: its interfaces, names and ports."""
        for member in endpoint.members.values():
            self._unwire(member)
        self._close_door(endpoint)
        endpoint.attached = False
        self._update_names()
        self._update_rules()

    def _unwire(self, member: Member) -> None:
        if member.veth:
            link = self.netlink.link(member.veth)
            if link is not None:
                try:
                    self.netlink.delete_link(link.index)
                except OSError as error:
                    # The container's end took it along meanwhile.
                    if error.errno != errno.ENODEV:
                        raise
            member.veth = ""

    def _remove(self, endpoint: Endpoint) -> None:
        self.endpoints.pop(endpoint.name, None)
        for member in endpoint.members.values():
            self._unwire(member)
        self._close_door(endpoint)
        self._drop_unused()
        self._update_names()

    def _drop_unused(self) -> None:
        """A bridge goes with its last member."""
        used = {name for endpoint in self.endpoints.values() for name in endpoint.members}
        for name in [name for name in self.networks if name not in used]:
            network = self.networks.pop(name)
            link = self.netlink.link(network["network_interface"])
            if link is not None:
                self.netlink.delete_link(link.index)

    def _connect(self, request: Document, netns: int) -> Document:
        endpoint = self._endpoint(request)
        member = self._join(endpoint, request["wish"])
        try:
            if endpoint.attached and netns >= 0:
                inside = self._enter(netns)
                try:
                    self._wire(endpoint, member, netns, inside, len(endpoint.members) - 1)
                finally:
                    inside.close()
        except BaseException:
            self._unwire(member)
            del endpoint.members[member.network]
            self._drop_unused()
            raise
        self._update_names()
        self._update_rules()
        self._want_outside()
        self._tell_owner(endpoint)
        return {"ok": True, **self._describe(endpoint)}

    def _disconnect(self, request: Document, netns: int) -> Document:
        endpoint = self._endpoint(request)
        member = endpoint.members.get(request["network"])
        if member is None:
            raise RootlessError(f"is not connected to network {request['network']}")
        self._unwire(member)
        del endpoint.members[member.network]
        self._drop_unused()
        self._update_names()
        self._update_rules()
        self._tell_owner(endpoint)
        return {"ok": True, **self._describe(endpoint)}

    def _reload(self, endpoint: Endpoint, netns: int) -> Document:
        """Everything anew, the addresses and the door as they are."""
        inside = self._enter(netns)
        try:
            for number, member in enumerate(endpoint.members.values()):
                self._wire(endpoint, member, netns, inside, number)
        finally:
            inside.close()
        self.rules = ""
        self._update_names()
        self._update_rules()
        return {"ok": True, **self._describe(endpoint)}

    def _tell_owner(self, endpoint: Endpoint) -> None:
        self._send(endpoint.owner, {"event": "changed", **self._describe(endpoint)})

    def _describe(self, endpoint: Endpoint) -> Document:
        return {
            "endpoint": endpoint.name,
            "mark": endpoint.mark,
            "ports": endpoint.forwards,
            "networks": {
                name: self._describe_member(member) for name, member in endpoint.members.items()
            },
        }

    def _describe_member(self, member: Member) -> Document:
        network = self.networks[member.network]
        servers = []
        if network.get("dns_enabled"):
            servers = [gateway for _, _, gateway in member.addresses if gateway]
        return {
            **member.to_json(),
            "id": network["id"],
            "dns": servers,
            "internal": bool(network.get("internal")),
        }

    def _redefine(self, network: Document) -> Document:
        """A changed definition (`network update`): name servers take effect at once."""
        if network["name"] in self.networks:
            self.networks[network["name"]] = network
            self._update_names()
            self._update_rules()
        return {"ok": True}

    # --- the way out ---

    def _want_outside(self) -> None:
        """Ask one client to make the way out: only a process in the host's namespace can."""
        if self.outside_pidfd >= 0 or self.outside_asked >= 0:
            return
        for endpoint in self.endpoints.values():
            if any(not self.networks[name].get("internal") for name in endpoint.members):
                self.outside_asked = endpoint.owner
                self._send(endpoint.owner, {"event": "make_outside"})
                return

    def _take_outside(self, fd: int, request: Document, fds: list[int]) -> Document:
        if request.get("error"):
            if fd == self.outside_asked:
                self.outside_asked = -1
            for client in self.waiting:
                self._send(client, {"event": "outside", "error": request["error"]})
            self.waiting.clear()
            return {"ok": True}
        if self.outside_pidfd >= 0:
            return {"ok": True, "superfluous": True}
        self.outside_pidfd, self.outside_lifeline = (os.dup(one) for one in fds[:2])
        self.outside_dns = request["dns"]
        self.outside_asked = -1
        self.poll.register(self.outside_pidfd, select.POLLIN)
        for client in self.waiting:
            self._send(client, {"event": "outside"})
        self.waiting.clear()
        self._update_names()
        return {"ok": True}

    def _lost_outside(self) -> None:
        self.poll.unregister(self.outside_pidfd)
        os.close(self.outside_pidfd)
        os.close(self.outside_lifeline)
        self.outside_pidfd = self.outside_lifeline = -1
        self.outside_dns = []
        self._update_names()
        self._want_outside()

    # --- published ports ---

    def _open_door(self, endpoint: Endpoint, interface: str, relayed: bool) -> Document:
        link = self.netlink.link(interface)
        if link is None:
            raise RootlessError(f"networks: there is no interface {interface} for published ports")
        endpoint.door = interface
        if not link.is_up:
            self.netlink.set_up(link.index)
        table = _DOOR_TABLE + endpoint.mark
        for family, everything in ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0")):
            try:
                self.netlink.add_mark_rule(family, endpoint.mark, table)
            except FileExistsError:
                pass
            try:
                self.netlink.add_route(everything, index=link.index, table=table)
            except OSError as error:
                # Without IPv6 in the kernel there is nothing to route.
                if family == socket.AF_INET:
                    raise
                if error.errno not in (errno.EAFNOSUPPORT, errno.EACCES, errno.ENODEV):
                    raise
        if relayed:
            self._relay_loopback(endpoint)
        self._update_rules()
        return {"ok": True}

    def _relay_loopback(self, endpoint: Endpoint) -> None:
        """What comes by our ::1: no translation of addresses can take that to a container.

        Only pasta before 2024_07 connects there; newer ones send it by the door, from the host's address.
        """
        addresses = [
            address for member in endpoint.members.values() for address, _, _ in member.addresses
        ]
        ports = [
            PortMapping(
                "::1", port["inner"], port["container_port"], port["range"], port["protocol"]
            )
            for port in endpoint.forwards
            if port["host_ip"] in ("", "::", "::1")
        ]
        if ports and any(":" in address for address in addresses):
            from slirp import relay

            endpoint.relay = relay.start(ports, addresses[0], -1, -1)

    def _close_door(self, endpoint: Endpoint) -> None:
        if not endpoint.door:
            return
        endpoint.door = ""
        if endpoint.relay is not None:
            endpoint.relay.stop()
            endpoint.relay = None
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                self.netlink.delete_mark_rule(family, endpoint.mark, _DOOR_TABLE + endpoint.mark)
            except OSError:
                pass  # it was never made for this family

    def _update_rules(self) -> None:
        zones = [
            firewall.Zone(
                network["network_interface"],
                [entry["subnet"] for entry in network.get("subnets") or ()],
                bool(network.get("internal")),
                {"true": "true", "1": "true", "strict": "strict"}.get(
                    str((network.get("options") or {}).get("isolate", "")).lower(), ""
                ),
            )
            for network in self.networks.values()
        ]
        forwards, doors = [], []
        for endpoint in self.endpoints.values():
            if not (endpoint.door and endpoint.attached):
                continue
            doors.append((endpoint.door, endpoint.mark))
            targets: dict[int, str] = {}
            for member in endpoint.members.values():
                if self.networks[member.network].get("internal"):
                    continue
                for address, _, _ in member.addresses:
                    targets.setdefault(6 if ":" in address else 4, address)
            for port in endpoint.forwards:
                for address in targets.values():
                    forwards += [
                        firewall.Forward(
                            port["protocol"],
                            port["inner"] + step,
                            address,
                            port["container_port"] + step,
                        )
                        for step in range(port["range"])
                    ]
        script = firewall.ruleset(zones, forwards, doors)
        if script != self.rules:
            firewall.apply(self.nft, script)
            self.rules = script

    # --- names ---

    def _update_names(self) -> None:
        """Listen on the gateways of the networks in use, and nowhere else."""
        wanted = {
            entry["gateway"]: network["name"]
            for network in self.networks.values()
            if network.get("dns_enabled")
            for entry in network.get("subnets") or ()
            if entry.get("gateway") and self.netlink.link(network["network_interface"]) is not None
        }
        present = {}
        for fd, (one, gateway) in list(self.dns_sockets.items()):
            if gateway in wanted:
                present[gateway] = fd
            else:
                self.poll.unregister(fd)
                one.close()
                del self.dns_sockets[fd]
        for gateway in wanted:
            if gateway in present:
                continue
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
                one = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind((gateway, DNS_PORT))
                if kind == socket.SOCK_STREAM:
                    one.listen(64)
                self.dns_sockets[one.fileno()] = (one, gateway)
                self.poll.register(one, select.POLLIN)

    def _names_for(self, asker: str, gateway: str) -> list[dns.Names]:
        """What an address may ask: the names on all its networks, that of the gateway it asked first."""
        servers: list[str] = []
        labels = [
            network["name"]
            for network in self.networks.values()
            if any(entry.get("gateway") == gateway for entry in network.get("subnets") or ())
        ]
        for endpoint in self.endpoints.values():
            if any(
                asker == address
                for member in endpoint.members.values()
                for address, _, _ in member.addresses
            ):
                labels += [label for label in endpoint.members if label not in labels]
                servers = endpoint.servers
        return [self._names(label, servers) for label in labels]

    def _names(self, label: str, wanted: list[str]) -> dns.Names:
        network = self.networks[label]
        servers: list[str] = []
        if not network.get("internal"):
            servers = list(wanted or network.get("network_dns_servers") or self.outside_dns)
        names = dns.Names(servers)
        for endpoint in self.endpoints.values():
            member = endpoint.members.get(label)
            if member is None or not endpoint.attached:
                continue
            for address, _, _ in member.addresses:
                for name in (*endpoint.names, *member.aliases):
                    names.add(name, address)
        return names

    def _answer_name(self, fd: int) -> None:
        one, gateway = self.dns_sockets[fd]
        if one.type & 0xF == socket.SOCK_STREAM:
            self._answer_stream(one, gateway)
            return
        for _ in range(64):
            try:
                question, peer = one.recvfrom(4096)
            except OSError:
                return

            def send(data: bytes, peer: Any = peer, one: socket.socket = one) -> None:
                try:
                    one.sendto(data, peer)
                except OSError:
                    pass  # the container is gone

            networks = self._names_for(peer[0], gateway)
            try:
                data = dns.answer(question, networks)
            except ValueError:
                continue
            if data is not None:
                send(data)
                continue
            servers = [server for network in networks for server in network.upstream]
            watch = self.upstream.ask(dns.Asker(send, question, servers, dns.now()))
            if watch >= 0:
                self.poll.register(watch, select.POLLIN)

    def _answer_stream(self, one: socket.socket, gateway: str) -> None:
        """Long answers go over TCP: rare enough for a child each, which may wait."""
        try:
            client, peer = one.accept()
        except OSError:
            return
        with client:
            # A child of a child: nobody has to wait for it.
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
                return
            try:
                if os.fork() == 0:
                    client.settimeout(5)
                    _serve_stream(client, self._names_for(peer[0], gateway))
            except (OSError, ValueError):
                pass
            finally:
                os._exit(0)


def _serve_stream(client: socket.socket, networks: list[dns.Names]) -> None:
    for _ in range(8):
        question = _read_framed(client)
        if not question:
            return
        data = dns.answer(question, networks)
        if data is None:
            data = dns.failure(question)
            for server in [server for network in networks for server in network.upstream]:
                try:
                    family = socket.AF_INET6 if ":" in server else socket.AF_INET
                    with socket.socket(
                        family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC
                    ) as upstream:
                        upstream.settimeout(3)
                        upstream.connect((server, DNS_PORT))
                        upstream.sendall(struct.pack("!H", len(question)) + question)
                        data = _read_framed(upstream) or data
                    break
                except OSError:
                    continue
        client.sendall(struct.pack("!H", len(data)) + data)


def _read_framed(end: socket.socket) -> bytes:
    header = end.recv(2, socket.MSG_WAITALL)
    if len(header) < 2:
        return b""
    return end.recv(struct.unpack("!H", header)[0], socket.MSG_WAITALL)


def _mtu(network: Document) -> int:
    return int((network.get("options") or {}).get("mtu") or _MTU)


def _veth_name(endpoint: Endpoint, member: Member) -> str:
    """The same for the same endpoint and network, so that a new router finds what the one before made."""
    import hashlib

    key = hashlib.blake2b(f"{endpoint.name} {member.network}".encode(), digest_size=5).hexdigest()
    return f"veth{key}"


def _random_mac() -> str:
    octets = bytearray(os.urandom(6))
    octets[0] = octets[0] & 0xFE | 0x02  # locally administered, of one station
    return octets.hex(":")


def _sysctl(name: str, value: str) -> None:
    """Set one of the current namespace's network settings; a kernel without it does not need it."""
    try:
        fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
