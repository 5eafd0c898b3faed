"""The networks' router as a process (slirp/bridge.py): what netrouter.py executes once the namespaces are made.

In an interpreter of its own, since a copy of the command that comes first would keep all that a `run` has loaded, 12 MB
in the place of 4. Nor does that stay: after a quiet minute the router leaves what it knows in a memory file and becomes
a program of some hundred bytes (linux/sleeper.py), which executes this one again when anybody has something to say.
"""

from __future__ import annotations

import gc
import marshal
import os
import sys

from rootless import quickjson as json
from rootless.files import Lock, write_all
from rootless.linux import sockets as socket
from rootless.linux.prctl import PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, capset, prctl
from rootless.linux.process import set_name, set_title
from rootless.start import LateSite
from slirp import dns
from slirp.bridge import Router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

# The descriptors that netrouter.py leaves us.
LISTENER, USERNS, NETNS, CHANNEL = 3, 4, 5, 6

_NAME = "rootless-net"
# capabilities(7): for interfaces and rules, the name server's port, and joining a container's namespace.
_CAP_NET_BIND_SERVICE, _CAP_NET_ADMIN, _CAP_SYS_ADMIN = 10, 12, 21


def main() -> NoReturn:
    """Serve until nobody needs it; arguments: the folder of the socket, nft, aardvark-dns or nothing, and whether it
    is preferred to us, where we can answer for names ourselves. After a sleep, the memory file."""
    folder, nft, aardvark, is_preferred, *memory = sys.argv[1:]
    set_name(_NAME)
    set_title(_title(folder))
    gc.set_threshold(50_000)
    if sys.flags.no_site:
        sys.meta_path.append(LateSite)  # finds dnslib
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=LISTENER)
    lock = Lock(f"{folder}/lock", block=False)

    def make(program: str) -> Router:
        return Router(listener, USERNS, NETNS, nft, lock, program, f"{folder}/aardvark-dns")

    router = _again(int(memory[0]), make) if memory else _first(make, aardvark, bool(is_preferred))
    router.serve(float(os.environ["ROOTLESS_SETTLE_S"]), lambda: _rest(router, folder))
    # The lock is ours: nobody is on the way.
    os.unlink(f"{folder}/router")
    os._exit(0)


def _title(folder: str) -> str:
    return f"rootless networks {folder}"


def _first(make: Callable[[str], Router], aardvark: str, is_preferred: bool) -> Router:
    for fd in (LISTENER, USERNS, NETNS, CHANNEL):
        os.set_inheritable(fd, False)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=CHANNEL)
    try:
        _drop_rights()
        router = make(aardvark if is_preferred or not dns.is_available() else "")
        router.wiring.prepare()
        channel.send(b"serving")
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) else 0
        failure = {"errno": number, "text": f"{type(error).__name__}: {error}"}
        channel.send(json.dumps(failure).encode())
        os._exit(1)
    channel.close()
    return router


def _rest(router: Router, folder: str) -> None:
    """Become a sleeper; returns where that cannot be now."""
    from rootless.linux import sleeper
    from slirp import dormancy

    kept = dormancy.freeze(router)
    if kept is None:
        return
    aardvark = "" if router.aardvark is None else router.aardvark.program
    watched = dormancy.watched(router)
    descriptors = [USERNS, NETNS, *watched, *dormancy.lifelines(router)]
    words = marshal.dumps((kept, aardvark, descriptors))
    memory = os.memfd_create("router", os.MFD_CLOEXEC)
    try:
        write_all(memory, words)
        for fd in (*descriptors, memory):
            os.set_inheritable(fd, True)
        arguments = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
        sleep = sleeper.Sleep(
            _NAME,
            sys.executable,
            [*arguments, *sys.argv[1:5], str(memory)],
            descriptors=watched,
        )
        sleeper.execute(sleep, title=_title(folder), environment=os.environ)
    except OSError:
        # Another kind of machine, or more containers than it can wait for: this one goes on.
        for fd in descriptors:
            os.set_inheritable(fd, False)
        os.close(memory)


def _again(memory: int, make: Callable[[str], Router]) -> Router:
    from slirp import dormancy

    kept, aardvark, descriptors = marshal.loads(os.pread(memory, os.fstat(memory).st_size, 0))
    os.close(memory)
    for fd in descriptors:
        os.set_inheritable(fd, False)
    router = make(aardvark)
    dormancy.thaw(router, kept)
    return router


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
