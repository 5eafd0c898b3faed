"""The router as plain values, and from them again: what a sleeping one leaves to the interpreter that follows it.

Descriptors keep their numbers. What is under way (a question that others were asked, a way out that somebody is making)
cannot be left; then there is nothing to keep.
"""

from __future__ import annotations

import select

from rootless.linux import sockets as socket
from slirp.topology import Endpoint, Member, Topology

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from slirp.bridge import Router

    Values = dict[str, Any]


def freeze(router: Router) -> Values | None:
    """What `thaw` needs; None where the router cannot sleep now."""
    outside, aardvark = router.outside, router.aardvark
    if not router.clients or outside.asked >= 0 or router.names.timeout_s() is not None:
        return None
    return {
        "clients": list(router.clients),
        "topology": _freeze_topology(router.topology),
        "outside": (outside.pidfd, outside.lifeline, outside.waiting),
        "rules": router.rules,
        "forwards": router.forwards,
        "names": router.names.freeze(),
        "aardvark": None if aardvark is None else aardvark.freeze(),
    }


def watched(router: Router) -> list[int]:
    """The descriptors that have something to say to a router."""
    found = [router.listener.fileno(), *router.clients, *router.names.sockets()]
    if router.outside.pidfd >= 0:
        found.append(router.outside.pidfd)
    if router.aardvark is not None and router.aardvark.pidfd >= 0:
        found.append(router.aardvark.pidfd)
    return found


def lifelines(router: Router) -> list[int]:
    """Those that only have to stay open."""
    found = [router.outside.lifeline]
    if router.aardvark is not None:
        found.append(router.aardvark.lifeline)
    return [fd for fd in found if fd >= 0]


def thaw(router: Router, kept: Values) -> None:
    """Into a router that has just been made."""
    for fd in kept["clients"]:
        router.clients[fd] = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=fd)
        router.poll.register(fd, select.POLLIN)
    _thaw_topology(router.topology, kept["topology"])
    outside = router.outside
    outside.pidfd, outside.lifeline, outside.waiting = kept["outside"]
    if outside.pidfd >= 0:
        router.poll.register(outside.pidfd, select.POLLIN)
    router.rules = kept["rules"]
    router.forwards = kept["forwards"]
    router.names.thaw(kept["names"])
    if router.aardvark is not None:
        router.aardvark.thaw(kept["aardvark"])


def _slots(one: Endpoint | Member, left_out: str) -> Values:
    return {name: getattr(one, name) for name in one.__slots__ if name != left_out}


def _freeze_topology(topology: Topology) -> Values:
    return {
        "networks": topology.networks,
        "upstream": topology.upstream,
        "last": topology._last,
        "endpoints": [
            (_slots(endpoint, "members"), [_slots(one, "") for one in endpoint.members.values()])
            for endpoint in topology.endpoints.values()
        ],
    }


def _thaw_topology(topology: Topology, kept: Values) -> None:
    topology.networks = kept["networks"]
    topology.upstream = kept["upstream"]
    topology._last = kept["last"]
    for values, members in kept["endpoints"]:
        endpoint = Endpoint.__new__(Endpoint)
        _fill(endpoint, values)
        endpoint.members = {}
        for one in members:
            member = endpoint.members[one["network"]] = Member.__new__(Member)
            _fill(member, one)
        topology.endpoints[endpoint.name] = endpoint


def _fill(one: Endpoint | Member, values: Values) -> None:
    for name, value in values.items():
        setattr(one, name, value)
