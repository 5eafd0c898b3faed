"""A container's (or a command's) line to the router of the user's networks (slirp/bridge.py), made on first use.

Who comes first makes the router, under a lock, so that two commands at once never make two. Every user of it holds the
namespaces by descriptors: when the router is killed they outlive it, and the next message from or to it makes a new one
in them. With the last line the router goes, and the namespaces with it.
"""

from __future__ import annotations

import errno
import os

from rootless import quickjson as json
from rootless.errors import Conflict, RootlessError, SetupError
from rootless.files import Lock, make_private_dir
from rootless.linux import sockets as socket
from rootless.linux.idmap import IdMap, read_map
from slirp.host import uplink4, uplink6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rootless.config import Config
    from rootless.paths import Paths
    from slirp.pasta import Pasta
    from slirp.process import Pending

    Document = dict[str, Any]

_MESSAGE = 1 << 20
_FDS = 64  # room for the descriptors of a message, in bytes
_TRIES = 5


class Line:
    """A connection to the router, with the namespaces it serves."""

    __slots__ = ("paths", "config", "socket", "userns", "netns", "router")

    def __init__(self, paths: Paths, config: Config | None) -> None:
        self.paths = paths
        self.config = config
        self.socket: socket.socket | None = None
        self.userns = -1
        self.netns = -1
        self.router = 0  # its pid

    def open(self, *, make: bool = True) -> bool:
        """Connect, making the router where there is none and `make` says so; whether there is one."""
        make_private_dir(self.paths.run_networks)
        for _ in range(_TRIES):
            if self._connect() and self._hello():
                return True
            if not make and self.userns < 0:
                return False
            with Lock(f"{self.paths.run_networks}/lock"):
                # Somebody else may have made one while we waited for the lock.
                if (self._connect() and self._hello()) or (self._make() and self._hello()):
                    return True
        raise RootlessError(
            "the networks' router does not answer",
            hint=f"look for a process `rootless-net` and for {self._path()}",
        )

    def _path(self) -> str:
        return f"{self.paths.run_networks}/router"

    def _connect(self) -> bool:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        folder = os.open(self.paths.run_networks, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # A socket's path may have 107 bytes only, so it is named relative to the folder.
            end.connect(f"/proc/self/fd/{folder}/router")
        except OSError as error:
            end.close()
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                return False
            raise
        finally:
            os.close(folder)
        if self.socket is not None:
            # The same descriptor as before: the monitor's poll goes on watching it.
            os.dup2(end.fileno(), self.socket.fileno(), inheritable=False)
            end.close()
        else:
            self.socket = end
        return True

    def _hello(self) -> bool:
        try:
            reply, fds = self._exchange({"op": "hello"})
        except (ConnectionError, EOFError):
            return False
        if len(fds) != 2:
            return False
        for old in (self.userns, self.netns):
            if old >= 0:
                os.close(old)
        self.userns, self.netns = fds
        self.router = reply["pid"]
        return bool(reply.get("ok"))

    def ask(self, request: Document, fds: Sequence[int] = ()) -> Document:
        """One question, one answer; the router's error becomes ours. Events in between are handed to `on_event`."""
        self.send(request, fds)
        return self._answer()

    def _answer(self) -> Document:
        reply, extra = self._await()
        for fd in extra:
            os.close(fd)
        if "error" in reply:
            kind = Conflict if reply.get("conflict") else RootlessError
            raise kind(reply["error"], hint=reply.get("hint", ""))
        return reply

    def send(self, request: Document, fds: Sequence[int] = ()) -> None:
        if self.socket is None:
            raise ConnectionError("no line to the router")
        if fds:
            self.socket.sendmsg([json.dumps(request).encode()], socket.rights(fds))
        else:
            self.socket.send(json.dumps(request).encode())

    def receive(self) -> tuple[Document, list[int]]:
        if self.socket is None:
            raise ConnectionError("no line to the router")
        data, ancillary, _, _ = self.socket.recvmsg(_MESSAGE, _FDS, socket.MSG_CMSG_CLOEXEC)
        fds = socket.descriptors(ancillary)
        if not data:
            raise EOFError
        return json.loads(data), fds

    def on_event(self, event: Document) -> None:
        """An event that comes while an answer is awaited."""

    def _exchange(self, request: Document, fds: Sequence[int] = ()) -> tuple[Document, list[int]]:
        self.send(request, fds)
        return self._await()

    def _await(self) -> tuple[Document, list[int]]:
        while True:
            reply, extra = self.receive()
            if "event" not in reply:
                return reply, extra
            self.on_event(reply)

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        for fd in (self.userns, self.netns):
            if fd >= 0:
                os.close(fd)
        self.userns = self.netns = -1

    def idmap(self) -> IdMap:
        """The map of the router's user namespace, as its kernel tells it."""
        return IdMap(read_map(self.router, "uid_map"), read_map(self.router, "gid_map"))

    # --- making one; the lock is held ---

    def _make(self) -> bool:
        from rootless import netrouter
        from slirp import firewall

        programs = [firewall.find(), *self._resolver()]
        folder = os.open(self.paths.run_networks, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                os.unlink("router", dir_fd=folder)
            except FileNotFoundError:
                pass
            listener = socket.socket(
                socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            )
            listener.bind(f"/proc/self/fd/{folder}/router")
            listener.listen(512)
        finally:
            os.close(folder)
        try:
            netrouter.fork(self.paths, listener, programs, self.userns, self.netns)
        finally:
            listener.close()
        return self._connect()

    def _resolver(self) -> tuple[str, str]:
        """aardvark-dns, or nothing where ours answers for names; and whether it is to be preferred (slirp/dns.py)."""
        from slirp import aardvark

        wanted = self.config.text("network", "resolver") if self.config else ""
        found = None if wanted == "rootless" else aardvark.find(self._dirs())
        if found is None and wanted == "aardvark-dns":
            raise RootlessError(
                "networks: aardvark-dns, which containers.conf asks for, is not installed",
                hint='install the package aardvark-dns, or set resolver = "rootless"',
            )
        if found is None:
            return "", ""
        is_preferred = wanted or aardvark.is_current(found, self.paths.cache)
        return found, "preferred" if is_preferred else ""

    def _dirs(self) -> list[str]:
        return self.config.texts("engine", "helper_binaries_dir") if self.config else []


def outside_pasta(paths: Paths, config: Config | None) -> Pasta | None:
    """The pasta that is the networks' way out; None where slirp4netns is, as it is asked for or the only one.

    pasta is the faster one, but writes to all of its buffers at once: 29 MB on Debian 12, where slirp4netns takes 1 MB.
    """
    from slirp import pasta, slirp4netns

    dirs = config.texts("engine", "helper_binaries_dir") if config else []
    if (
        config is not None
        and config.text("network", "default_rootless_network_cmd") == "slirp4netns"
        and slirp4netns.find(dirs) is not None
    ):
        return None
    return pasta.find(dirs, paths.cache)


class Session(Line):
    """A container on user-defined networks, from before its namespaces exist until its end."""

    __slots__ = (
        "identity", "names", "wishes", "servers", "state", "_driver", "_outside", "_attached", "_failure",
        "_given",
    )  # fmt: skip

    def __init__(
        self,
        paths: Paths,
        config: Config | None,
        identity: str,
        names: list[str],
        wishes: list[Document],
        servers: list[str],
    ) -> None:
        super().__init__(paths, config)
        self.identity = identity
        self.names = names
        self.wishes = wishes
        self.servers = servers  # asked for names that are nobody's on its networks
        self.state: Document = {}
        self._driver: Document = {}
        self._outside: Pending | None = None
        self._given: list[int] = []  # children that serve the router: ours to reap only
        self._attached = False
        self._failure = ""

    def reserve(self) -> None:
        """Choose the addresses; they are ours until the line goes."""
        for attempt in range(_TRIES):
            self.open()
            try:
                self.state = self.ask(self._reservation())
                return
            except (ConnectionError, EOFError):
                # It ended between our hello and this.
                if attempt == _TRIES - 1:
                    raise

    def _reservation(self) -> Document:
        request: Document = {
            "op": "reserve",
            "endpoint": self.identity,
            "names": self.names,
            "networks": self.wishes,
            "servers": self.servers,
        }
        if self._attached:
            request["attached"] = True
        return request

    # --- start ---

    def begin(self, pid: int, netns: int = -1) -> None:
        """Start what takes time, the way out; and have the container wired."""
        if self.state.get("make_outside"):
            self._outside = self._start_outside()
        opened = -1
        if netns < 0:
            netns = opened = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.send({"op": "attach", "endpoint": self.identity}, [netns])
        finally:
            if opened >= 0:
                os.close(opened)
        self._attached = True

    def _merge(self, reply: Document) -> None:
        """Keep what the router says of us now."""
        if "networks" in reply:
            self.state["networks"] = reply["networks"]
        known = {wish["network"]["name"]: wish for wish in self.wishes}
        self.wishes = []
        for name, member in self.state["networks"].items():
            wish = known.get(name) or {"network": reply.get("definitions", {}).get(name)}
            if wish["network"] is None:
                from rootless import netrecords

                wish["network"] = netrecords.read(self.paths, self.config, name)
            for address, _, _ in member["addresses"]:
                wish["ip6" if ":" in address else "ip"] = address
            wish.update(mac=member["mac"], interface=member["interface"], aliases=member["aliases"])
            self.wishes.append(wish)

    def finish(self) -> None:
        """Wait until all of it works: the wires, and the way out, ours or somebody else's."""
        self._merge(self._answer())
        if self._outside is not None:
            self._give_outside()
        elif self.state.get("await_outside"):
            while self.state.get("await_outside"):
                event, fds = self.receive()
                for fd in fds:
                    os.close(fd)
                self.on_event(event)
        if self._failure:
            raise SetupError(self._failure, stage="network")

    def _start_outside(self) -> Pending:
        from slirp import pasta, slirp4netns

        found = outside_pasta(self.paths, self.config)
        if found is not None:
            words = self.config.texts("network", "pasta_options") if self.config else []
            settings = pasta.settings(found, words)
            self._driver = {"dns": settings.dns_forward, "map_guest": settings.map_guest}
            return pasta.start(found, settings.arguments, self.netns, self.userns)
        program = slirp4netns.find(self._dirs())
        if program is None:
            raise pasta.missing()
        choice = slirp4netns.parse(
            self.config.texts("engine", "network_cmd_options") if self.config else []
        )
        self._driver = {"dns": [choice.dns], "map_guest": []}
        return slirp4netns.start(
            program, choice, (), self.netns, self.userns, self.paths.run_networks
        )

    def _give_outside(self) -> None:
        """Hand the way out over to the router: it lives as long as that."""
        pending, self._outside = self._outside, None
        if pending is None:
            return
        try:
            helper = pending.wait_ready()
        except SetupError as error:
            self.ask({"op": "outside", "error": error.message})
            raise
        offline = uplink4() is None and uplink6() is None
        self.ask(
            {"op": "outside", "dns": self._driver["dns"], "offline": offline},
            [helper.pidfd, helper.lifeline],
        )
        self._given.append(helper.pid)
        helper.close()

    def _reap(self) -> None:
        for pid in list(self._given):
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            except ChildProcessError:
                pass
            self._given.remove(pid)

    # --- while it runs ---

    def on_event(self, event: Document) -> None:
        kind = event["event"]
        if kind == "make_outside":
            self.state.pop("await_outside", None)
            self._outside = self._start_outside()
        elif kind == "outside":
            self.state.pop("await_outside", None)
            self._failure = event.get("error", "")
        elif kind == "changed":
            self._merge(event)

    def handle(self) -> None:
        """The line has something to say: an event, or that the router died, which makes us make another."""
        self._reap()
        try:
            event, fds = self.receive()
        except (ConnectionError, EOFError):
            self._renew()
            return
        for fd in fds:
            os.close(fd)
        self.on_event(event)
        if self._outside is not None:
            self._give_outside()

    def _renew(self) -> None:
        self.reserve()
        if self.state.get("make_outside"):
            self._outside = self._start_outside()
            self._give_outside()

    def fileno(self) -> int:
        return self.socket.fileno() if self.socket is not None else -1

    def target(self) -> tuple[list[str], bool]:
        """Where published ports lead: the addresses, of the first network that leads out for each family; and whether
        what answers a stranger comes back."""
        found: dict[bool, tuple[str, bool]] = {}
        for member in self.state["networks"].values():
            if not member["internal"]:
                for address, _, _ in member["addresses"]:
                    found.setdefault(":" in address, (address, member["answers"]))
        return [address for address, _ in found.values()], all(back for _, back in found.values())

    def detach(self) -> None:
        """The container's end; the line stays for a restart."""
        if self._outside is not None:
            self._outside.abandon()
            self._outside = None
            self._tell({"op": "outside", "error": "given up"})
        if self._attached:
            self._attached = False
            self._tell({"op": "detach", "endpoint": self.identity})

    def _tell(self, request: Document) -> None:
        try:
            self.ask(request)
        except (ConnectionError, EOFError, RootlessError):
            pass  # the router died and took it all along
