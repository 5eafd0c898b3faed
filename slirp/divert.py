"""The way back to a relay that connects to a container with its client's address instead of one of its own.

The relay's sockets take a stranger's address (ip(7), IP_TRANSPARENT), so what is sent to it must come back to the relay
in place of leaving by the default route. Their packets carry a mark, and so does all that answers them: in the networks'
namespace by connection tracking (firewall.py), in a container's own by the kernel's word for it, for TCP only. Whatever
is marked with MARK counts as local.
"""

from __future__ import annotations

import errno

from rootless.linux import sockets as socket
from slirp.netlink import Netlink
from slirp.sysctl import set_sysctl

MARK = 0x726C
# What such a connection has in the networks' namespace, where its own packets must leave by a bridge.
ASKED = 0x726D


def prepare(netlink: Netlink) -> None:
    """Rules and routes; once per namespace, a second time does no harm."""
    for family, everything in ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0")):
        try:
            netlink.add_mark_rule(family, MARK, MARK)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                continue  # a kernel without IPv6
            raise
        loopback = netlink.link("lo")
        assert loopback is not None
        netlink.add_local_route(everything, loopback.index, MARK)


def prepare_container(netlink: Netlink) -> None:
    """In the namespace of the server itself, whose answers to a marked connection are marked too."""
    loopback = netlink.link("lo")
    if loopback is not None and not loopback.is_up:
        netlink.set_up(loopback.index)  # we may be earlier than the helper
    prepare(netlink)
    set_sysctl("ipv4/tcp_fwmark_accept", "1")
