"""The networks' router as a process (slirp/bridge.py): what netrouter.py executes once the namespaces are made.

In an interpreter of its own, since a copy of the command that comes first would keep all that a `run` has loaded, 12 MB
in the place of 4, for as long as there are containers on a network. So what is imported here is what it needs.
"""

from __future__ import annotations

import gc
import os
import sys

from rootless import quickjson as json
from rootless.files import Lock
from rootless.linux import sockets as socket
from rootless.linux.prctl import PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, capset, prctl
from rootless.linux.process import set_name, set_title
from rootless.start import LateSite
from slirp.bridge import Router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# The descriptors that netrouter.py leaves us.
LISTENER, USERNS, NETNS, CHANNEL = 3, 4, 5, 6

# capabilities(7): for interfaces and rules, the name server's port, and joining a container's namespace.
_CAP_NET_BIND_SERVICE, _CAP_NET_ADMIN, _CAP_SYS_ADMIN = 10, 12, 21


def main() -> NoReturn:
    """Serve until nobody needs it; arguments: the folder of the socket, and nft."""
    folder, nft = sys.argv[1:3]
    set_name("rootless-net")
    set_title(f"rootless networks {folder}")
    gc.set_threshold(50_000)
    for fd in (LISTENER, USERNS, NETNS, CHANNEL):
        os.set_inheritable(fd, False)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=CHANNEL)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=LISTENER)
    try:
        if sys.flags.no_site:
            sys.meta_path.append(LateSite)  # finds dnslib
        _drop_rights()
        router = Router(listener, USERNS, NETNS, nft, Lock(f"{folder}/lock", block=False))
        channel.send(b"serving")
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) else 0
        failure = {"errno": number, "text": f"{type(error).__name__}: {error}"}
        channel.send(json.dumps(failure).encode())
        os._exit(1)
    channel.close()
    router.serve()
    # The lock is ours: nobody is on the way.
    os.unlink(f"{folder}/router")
    os._exit(0)


def _drop_rights() -> None:
    """It reads what containers send: of the root of its namespace it keeps what it is for."""
    kept = 1 << _CAP_NET_BIND_SERVICE | 1 << _CAP_NET_ADMIN | 1 << _CAP_SYS_ADMIN
    for number in range(64):
        if not kept >> number & 1:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except OSError:
                break  # the last one that this kernel knows
    capset(kept, kept, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
