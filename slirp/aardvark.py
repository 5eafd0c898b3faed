"""aardvark-dns as the server of members' names, where it is wanted (dns.py says when and why).

It knows names and addresses from files, one for each network, and asks an address that it is given for each container
for whatever else there is (config.md of its sources). That address is the router's, on the loopback of the networks'
namespace: there the user's choice of servers is kept to, nothing leaves an internal network, and a name that nobody can
know is unknown at once, where aardvark-dns by itself would not answer at all.

It makes itself a daemon, which no parent can hold on to, so it gets a pid namespace, whose init has nothing to do but to
end with the router or with it (sleeper.py):

    router                          init (pid 1)                        aardvark-dns
    fork, fork ──────────────────►  its own mounts, few rights
                                    fork ────────────────────────────►  fork ──► the daemon
         ◄── "ready" ─────────────  waits for the parent's end  ◄────── exit
    kill -9 of any of the three ──► the kernel ends whoever is left

Readiness, and that a change has been read, are known by asking: the version of the files is a name's address.
"""

from __future__ import annotations

import fcntl
import os
import select
import time

from rootless.errors import RootlessError
from rootless.files import make_private_dir, write_atomic
from rootless.linux import signal, sleeper
from rootless.linux import sockets as socket
from rootless.linux.fs import close_range
from rootless.linux.mount import MS_BIND, MS_PRIVATE, MS_REC, mount
from rootless.linux.prctl import capset
from rootless.linux.sched import CLONE_NEWNS, CLONE_NEWPID, unshare
from slirp.process import find_program, once, said_by
from slirp.resolv import RESOLV_CONF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

    from slirp.topology import Endpoint, Topology

# Debian's place; elsewhere it is found in containers.conf's helper_binaries_dir.
DIRS = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/libexec/podman")
PROBE = "127.114.108.1"  # where it is asked which version of the files it has read
READY_TIMEOUT_S = 10.0
_MAX_DEATHS = 10
_CURRENT = (1, 13)
_CAP_NET_BIND_SERVICE = 10
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")
# One thread for each address, not one for each of the machine's processors.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TOKIO_WORKER_THREADS": "1"}


def find(dirs: Iterable[str] = ()) -> str | None:
    return find_program("aardvark-dns", (*dirs, *DIRS))


def is_current(program: str, cache: str | None) -> bool:
    """Whether it is of a version that does all that dns.py asks of it."""
    said = once(program, cache, lambda: said_by([program, "--version"]))
    numbers = said.partition("aardvark-dns ")[2].split(".")
    try:
        return (int(numbers[0]), int(numbers[1])) >= _CURRENT
    except (IndexError, ValueError):
        return False


def documents(
    topology: Topology, gateways: Iterable[str], server_for: Callable[[Endpoint], str]
) -> dict[str, str]:
    """The files by their names; `gateways`: those that exist; `server_for`: whom it asks for an endpoint."""
    present = set(gateways)
    found = {}
    for label, network in topology.networks.items():
        listen = [
            entry["gateway"]
            for entry in network.get("subnets") or ()
            if network.get("dns_enabled") and entry.get("gateway") in present
        ]
        if not listen:
            continue
        lines = [",".join(listen)]
        for endpoint in topology.endpoints.values():
            member = endpoint.members.get(label)
            if member is None or not endpoint.attached:
                continue
            addresses = [address for address, _, _ in member.addresses]
            four = ",".join(address for address in addresses if ":" not in address)
            six = ",".join(address for address in addresses if ":" in address)
            names = [name.lower() for name in (*endpoint.names, *member.aliases)]
            # What would be a separator of the file is no host's name either.
            names = [name for name in dict.fromkeys(names) if name and set(name) <= _NAME]
            if addresses and names:
                lines.append(
                    f"{endpoint.name} {four} {six} {','.join(names)} {server_for(endpoint)}"
                )
        # 1.11 and later know an internal network by the suffix. A bridge may have any name, such as that of its pid file.
        suffix = "%int" if network.get("internal") else ""
        found[f"n.{network['network_interface']}{suffix}"] = "".join(f"{line}\n" for line in lines)
    return found


class Aardvark:
    """The process and its files. One at a time in a folder, also where the one before has not quite ended yet."""

    __slots__ = (
        "program", "folder", "pid", "pidfd", "deaths", "_poll", "lifeline", "_known", "_version", "_shares",
    )  # fmt: skip

    def __init__(self, program: str, folder: str, poll: select.poll) -> None:
        self.program = program
        self.folder = folder
        self.deaths = 0
        self._poll = poll  # tells when it is gone, which is for the owner to handle
        self.pid = 0  # of its init
        self.pidfd = -1  # readable once it is gone
        self.lifeline = -1
        self._known: dict[str, str] = {}
        self._version = 0
        self._shares = (
            True  # whether what has been read is known to all of its addresses in one moment
        )

    def freeze(self) -> Any:
        """What `thaw` needs in another interpreter of this process."""
        numbers = self.pid, self.pidfd, self.deaths, self.lifeline
        return *numbers, self._known, self._version, self._shares

    def thaw(self, kept: Any) -> None:
        self.pid, self.pidfd, self.deaths, self.lifeline = kept[:4]
        self._known, self._version, self._shares = kept[4:]
        if self.pidfd >= 0:
            self._poll.register(self.pidfd, select.POLLIN)

    def follow(self, wanted: dict[str, str]) -> None:
        """Have it answer by these files; when this returns, it does. RootlessError where it cannot be made to."""
        if wanted == self._known and (self.pidfd >= 0 or not wanted):
            return
        if not wanted:
            self.stop()
            return
        if self.pidfd < 0:
            self._start(wanted)
        else:
            self._write(wanted)
            self._signal_reload()
        self._wait()

    def _write(self, wanted: dict[str, str]) -> None:
        self._version = self._version % 0xFFFF + 1
        files = {**wanted, "probe": self._probe([PROBE])}
        if not self._shares:
            for name, text in wanted.items():
                files[name] = text + self._probe(_listening(text))[text.index("\n") + 1 :]
        for name in os.listdir(self.folder):
            if name not in files and name != "aardvark.pid":
                os.unlink(f"{self.folder}/{name}")
        for name, text in files.items():
            if self._known.get(name) != text:
                write_atomic(f"{self.folder}/{name}", text.encode())
        self._known = wanted

    def _probe(self, addresses: list[str]) -> str:
        """A file by which whoever asks from one of these addresses is told the version."""
        four = [address for address in addresses if ":" not in address]
        six = [address for address in addresses if ":" in address]
        known = f"{','.join([*four, self._version_address()])} {','.join(six)} version.rootless"
        return f"{','.join(addresses)}\nrouter {known}\n"

    def _version_address(self) -> str:
        return f"127.115.{self._version >> 8}.{self._version & 255}"

    def _start(self, wanted: dict[str, str]) -> None:
        make_private_dir(self.folder)
        lock = os.open(f"{self.folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        reads, words = os.pipe2(os.O_CLOEXEC)
        held, self.lifeline = os.pipe2(os.O_CLOEXEC)
        try:
            # Held by its predecessor until that is gone with its sockets: a killed router's dies a moment after it.
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._known = {}
            self._shares = is_current(self.program, None)
            self._write(wanted)
            pid = os.fork()
            if not pid:
                try:
                    os.close(self.lifeline)
                    _make_init(self.program, self.folder, held, lock, words)
                except BaseException as error:
                    os.write(words, f"{type(error).__name__}: {error}".encode())
                finally:
                    os._exit(1)
        finally:
            for fd in (lock, words, held):
                os.close(fd)
        try:
            self._hear(pid, reads)
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(reads)

    def _hear(self, pid: int, reads: int) -> None:
        """Wait for init's word; `pid`: who made it."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        said = b""
        while b"\nready" not in said:  # the daemon may have words of its own after it
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([reads], [], [], left)[0]:
                raise self._failure(f"was not ready within {READY_TIMEOUT_S:.0f} seconds")
            chunk = os.read(reads, 4096)
            if not chunk:
                break
            said += chunk
            number, end, _ = said.partition(b"\n")
            if not self.pid and end and number.isdigit():
                self.pid = int(number)
                self.pidfd = os.pidfd_open(self.pid)
                self._poll.register(self.pidfd, select.POLLIN)
                os.waitpid(pid, 0)
                pid = 0
        if pid:
            os.waitpid(pid, 0)
        if b"\nready" not in said:
            reason = said.partition(b"\n")[2] if self.pid else said
            raise self._failure(
                f"did not start: {' '.join(reason.decode(errors='replace').split())}"
            )

    def _failure(self, what: str) -> RootlessError:
        return RootlessError(
            f"{self.program} {what}",
            hint='resolver = "rootless" in containers.conf does without it',
        )

    def _signal_reload(self) -> None:
        """Its init has one child, which no other process knows the number of."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", "rb") as file:
            for word in file.read().split():
                os.kill(int(word), signal.SIGHUP)

    def _wait(self) -> None:
        """Until it answers by the files of now, on each address."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        version = socket.inet_aton(self._version_address())
        gateways = [address for text in self._known.values() for address in _listening(text)]
        for server in (PROBE, *gateways):
            tells = server == PROBE or not self._shares
            name = b"\7version\10rootless\0" if tells else b"\5ready\3dns\6podman\0"
            while not (reply := _ask(server, name)) or (tells and version not in reply):
                if select.select([self.pidfd], [], [], 0)[0] or time.monotonic() > deadline:
                    self.stop()
                    raise self._failure(f"does not answer on {server}")

    def revive(self) -> None:
        """After its end that nobody asked for; not again and again, for somebody may mean it."""
        wanted = self._known
        self.stop()
        while self.deaths < _MAX_DEATHS:
            self.deaths += 1
            try:
                self.follow(wanted)
                return
            except (RootlessError, OSError):  # a machine may be short of processes for a moment
                self.stop()

    def stop(self) -> None:
        """End it; its addresses are free on return."""
        self._known = {}
        if self.pidfd >= 0:
            self._poll.unregister(self.pidfd)
            try:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            select.select([self.pidfd], [], [], 5)
            os.close(self.pidfd)
        if self.lifeline >= 0:
            os.close(self.lifeline)
        self.pid, self.pidfd, self.lifeline = 0, -1, -1


def _listening(text: str) -> list[str]:
    return text.partition("\n")[0].split(",")


def _ask(server: str, name: bytes) -> bytes:
    """The answer to one question for addresses; empty where none comes soon, or nobody listens."""
    ident = os.urandom(2)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
        try:
            one.bind((server, 0))
            one.connect((server, 53))
            one.send(ident + b"\1\0\0\1" + bytes(6) + name + b"\0\1\0\1")
            # As long as nobody listens there is nothing that would tell of his coming.
            one.settimeout(0.02)
            reply: bytes = one.recv(4096)
        except TimeoutError:
            return b""
        except OSError:
            select.select([], [], [], 0.001)
            return b""
    return reply if reply[:2] == ident else b""


def _make_init(program: str, folder: str, lifeline: int, lock: int, words: int) -> NoReturn:
    unshare(CLONE_NEWPID | CLONE_NEWNS)
    told, telling = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.write(words, b"%d\n" % pid)
        os._exit(0)
    os.close(telling)
    os.read(told, 1)  # its number comes before any word of the daemon's
    os.close(told)
    # What it would ask for a stranger's address is the host's, and by far not from everywhere.
    mount("", "/", "", MS_REC | MS_PRIVATE)
    if os.path.exists(RESOLV_CONF):
        mount("/dev/null", RESOLV_CONF, "", MS_BIND)
    capset(1 << _CAP_NET_BIND_SERVICE, 1 << _CAP_NET_BIND_SERVICE, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    null = os.open("/dev/null", os.O_RDWR)
    for place in (0, 1):
        os.dup2(null, place)
    pid = os.fork()
    if not pid:
        os.dup2(words, 2)
        os.dup2(lock, 3)  # so it is held until the last of us is gone
        close_range(4)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program, [program, "--config", folder, "--port", "53", "run"], _ENVIRONMENT)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        os._exit(1)
    signal.sigtimedwait([signal.SIGCHLD], 0)
    os.write(words, b"\nready")
    os.close(words)
    os.set_inheritable(lifeline, True)
    os.set_inheritable(lock, True)
    _rest(lifeline, folder)


def _rest(lifeline: int, folder: str) -> NoReturn:
    """Wait until the router or the daemon is gone, which ends the other."""
    try:
        if os.waitpid(-1, os.WNOHANG)[0]:
            os._exit(1)
        sleep = sleeper.Sleep(
            "rootless-dns", "/bin/true", ["true"], descriptors=[lifeline], signals=[signal.SIGCHLD]
        )
        sleeper.execute(sleep, title=f"rootless names {folder}", environment={})
    except ChildProcessError:
        os._exit(1)
    except OSError:
        poll = select.poll()
        poll.register(lifeline, 0)  # its end is told unasked
        while not poll.poll(1000) and not os.waitpid(-1, os.WNOHANG)[0]:
            pass
    os._exit(1)
