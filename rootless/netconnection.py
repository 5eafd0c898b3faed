"""A container's connection while it runs: its helper and its relay, and what becomes of them; held by its monitor."""

from __future__ import annotations

import os
import select

from rootless.errors import RootlessError
from rootless.netplan import DRIVERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.network import Link
    from slirp.process import Helper, Pending

_MAX_REVIVALS = 10  # of a helper that keeps dying: somebody means it


class _Namespaces:
    """The network and the user namespace of a process as descriptors, for as long as it takes."""

    __slots__ = ("pid", "given", "opened")

    def __init__(self, pid: int, netns: int = -1, userns: int = -1) -> None:
        self.pid = pid
        self.given = {"net": netns, "user": userns}
        self.opened: list[int] = []

    def __enter__(self) -> tuple[int, int]:
        for kind, fd in self.given.items():
            if fd < 0:
                fd = os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
                self.opened.append(fd)
                self.given[kind] = fd
        return self.given["net"], self.given["user"]

    def __exit__(self, *_: object) -> None:
        for fd in self.opened:
            os.close(fd)


class Connection:
    """A container's connection, from `Link.start` on; held by its monitor."""

    __slots__ = (
        "link",
        "pid",
        "helper",
        "relay",
        "news",
        "_pending",
        "_bridge",
        "_revived",
        "_watch",
        "_target",
    )

    def __init__(self, link: Link, pid: int) -> None:
        self.link = link
        self.pid = pid  # whose namespaces they are
        self.helper: Helper | None = None
        self.relay: Helper | None = None
        self.news = ""  # what `handle` has found, for the log
        self._pending: Pending | None = None
        self._bridge = link.bridge
        self._revived = 0
        self._watch: select.epoll | None = None
        self._target: Any = None

    def begin(self, netns: int = -1, userns: int = -1) -> None:
        """Start what carries; see Link.start."""
        if self._bridge is not None:
            self._bridge.begin(self.pid, netns)
            self._start_relay(self._bridge.netns, self._bridge.userns)
        elif self.link.driver in DRIVERS:
            with _Namespaces(self.pid, netns, userns) as (net, user):
                self._start_helper(net, user)
                self._start_relay(net, user)

    def _start_helper(self, netns: int, userns: int) -> None:
        link = self.link
        if link.driver == "pasta":
            from slirp import pasta

            self._pending = pasta.start(link.pasta, link.arguments, netns, userns)
            return
        from slirp import slirp4netns

        folder = link.paths.run_container(link.identity)
        own = [port for port in link.ports if port not in link.relayed]
        self._pending = slirp4netns.start(link.program, link.settings, own, netns, userns, folder)

    def _start_relay(self, netns: int, userns: int) -> None:
        """For the ports that the helper cannot carry; of a container on bridges, for all of them."""
        link = self.link
        if self._bridge is not None:
            ports = link.ports
            self._target = addresses, answers = self._bridge.target()
        else:
            ports, addresses, answers = link.relayed, [one for one, _ in link.addresses], True
        if ports and addresses:
            from slirp import relay

            inside = relay.Inside(
                addresses, netns, userns, is_container=self._bridge is None, answers=answers
            )
            self.relay = relay.start(ports, inside)

    def wait_ready(self) -> None:
        """Until it works; SetupError with the helper's words where it does not."""
        self._wait_for_helper()
        if self._bridge is not None:
            self._bridge.finish()
        self._watch_all()

    def _watch_all(self) -> None:
        """One descriptor for all that may have news: closed ones leave it by themselves."""
        watched = [one.pidfd for one in (self.helper, self.relay) if one is not None]
        if self._bridge is not None:
            watched.append(self._bridge.fileno())
        if not watched:
            return
        if self._watch is None:
            self._watch = select.epoll()
        for fd in watched:
            try:
                self._watch.register(fd, select.EPOLLIN)
            except FileExistsError:
                pass

    def helper_pidfd(self) -> int:
        """A descriptor that becomes readable when `handle` has something to do; -1 where there never is."""
        return -1 if self._watch is None else self._watch.fileno()

    def handle(self) -> bool:
        """The helper or the relay has died, or the networks' router has news: put right, and told in `news`. False where
        there is no network any more; else the record is to be written anew."""
        self.news = ""
        ready = {fd for fd, _ in self._watch.poll(0)} if self._watch is not None else set()
        try:
            if self._bridge is not None and self._bridge.fileno() in ready:
                self._bridge.handle()
            if self.helper is not None and self.helper.pidfd in ready:
                self.news = f"{self.helper.driver} {self.helper.stop() or 'has ended'}"
                self._count_death()
                # The relay goes on: its sockets are where the helper's end has left them.
                with _Namespaces(self.pid) as (net, user):
                    self._start_helper(net, user)
                self._wait_for_helper()
            died = self.relay is not None and self.relay.pidfd in ready
            if died:
                self.news = f"the relay of published ports {self._stop_relay() or 'has ended'}"
                self._count_death()
            if self._bridge is not None:
                if died or self._target != self._bridge.target():
                    self._stop_relay()
                    self._start_relay(self._bridge.netns, self._bridge.userns)
            elif died:
                with _Namespaces(self.pid) as (net, user):
                    self._start_relay(net, user)
        except (RootlessError, OSError) as error:
            self._stop()
            self.news = (
                f"{self.news or 'the networks have ended'} and cannot be started again: {error}"
            )
            return False
        if self.news:
            self.news += " and was started again"
        self._watch_all()
        return True

    def _count_death(self) -> None:
        self._revived += 1
        if self._revived > _MAX_REVIVALS:
            raise RootlessError(f"it has died {self._revived} times")

    def _wait_for_helper(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self.helper = pending.wait_ready()

    def _stop(self) -> None:
        if self._pending is not None:
            self._pending.abandon()
            self._pending = None
        self._stop_relay()
        if self.helper is not None:
            self.helper.stop()
            self.helper = None

    def _stop_relay(self) -> str:
        """How it ended."""
        relay, self.relay = self.relay, None
        return relay.stop() if relay is not None else ""

    def to_json(self) -> dict[str, Any]:
        """The record kept with the running container."""
        link = self.link
        record: dict[str, Any] = {
            "mode": link.plan.mode,
            "driver": link.driver,
            "ports": [mapping.to_json() for mapping in link.ports],
            "addresses": [list(address) for address in link.addresses],
            "gateways": link.gateways,
            "dns": link.dns,
        }
        if self.helper is not None:
            record["helper"] = self.helper.to_json()
        if self._bridge is not None:
            record["networks"] = members(self._bridge.state["networks"])
        return record

    def close(self) -> None:
        """Disconnect, whatever state it is in; the host's ports are free on return."""
        self._stop()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._bridge is not None:
            # The line itself stays open for a restart: it is the container's, and goes with its monitor.
            self._bridge.detach()


def members(networks: dict[str, Any]) -> dict[str, Any]:
    """What the router says of a container's networks, as it is recorded."""
    return {
        name: {
            "id": member["id"],
            "interface": member["interface"],
            "mac": member["mac"],
            "addresses": [[address, prefix] for address, prefix, _ in member["addresses"]],
            "gateways": [gateway for _, _, gateway in member["addresses"] if gateway],
            "aliases": member["aliases"],
            "dns": member["dns"],
        }
        for name, member in networks.items()
    }


def release(recorded: dict[str, Any]) -> None:
    """After a killed monitor: end what its connection left behind. The helper died with it, as a rule."""
    helper = recorded.get("helper")
    if helper and helper["pid"] > 0:
        from slirp.process import kill_recorded

        kill_recorded(helper["pid"], helper["start_time"])
