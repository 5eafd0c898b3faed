"""HTTP to registries: connections kept open, TLS as certs.d says, proxies, redirects.

Invariants: no request leaves in clear text unless the registry was declared insecure; a header of ours that carries a
secret goes to the host it was made for and to no other; a redirect leads to http(s) only. RFC 9112; containers-certs.d(5).
"""

from __future__ import annotations

import os
import socket
import threading
from urllib.parse import urljoin, urlsplit

import rootless
from rootless import paths
from rootless.errors import RegistryError, RootlessError
from rootless.image.http import BadAnswer, Connection, CutOff

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from typing import IO, Any
    from urllib.parse import SplitResult

    Body = bytes | IO[bytes] | None

STALL_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 30.0
_MAX_REDIRECTS = 8
_SEND_BYTES = 4 << 20
_CERT_ROOTS = ("/etc/containers/certs.d", "/etc/docker/certs.d")


class ConnectionFailed(RegistryError):
    """No answer, or a broken one: worth another try unless `permanent`."""

    def __init__(self, message: str, *, hint: str = "", permanent: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.permanent = permanent


class Response:
    """One answer; `close` gives its connection back for the next request."""

    def __init__(
        self,
        connection: Connection,
        status: int,
        headers: list[tuple[str, str]],
        url: str,
        release: Callable[[bool], None],
    ) -> None:
        self._connection = connection
        self._headers = headers
        self._release: Callable[[bool], None] | None = release
        self.url = url
        self.status = status
        self.length = connection.length

    def header(self, name: str, default: str = "") -> str:
        found = self.headers(name)
        return found[0] if found else default

    def headers(self, name: str) -> list[str]:
        name = name.lower()
        return [value for one, value in self._headers if one == name]

    def readinto(self, buffer: memoryview) -> int:
        """Read some bytes; 0 is the end, and an end before Content-Length a ConnectionFailed."""
        try:
            return self._connection.readinto(buffer)
        except (OSError, BadAnswer, CutOff) as error:
            self.abort()
            raise _broken(self.url, error) from error

    def read(self, limit: int) -> bytes:
        """Read a whole body of at most `limit` bytes."""
        if self.length is not None and self.length > limit:
            self.abort()
            raise RegistryError(
                f"{_place(self.url)}: answer of {self.length} bytes exceeds the limit of {limit}"
            )
        data = bytearray()
        view = memoryview(bytearray(min(limit + 1, 65536)))
        while len(data) <= limit:
            count = self.readinto(view)
            if not count:
                self.close()
                return bytes(data)
            data += view[:count]
        self.abort()
        raise RegistryError(f"{_place(self.url)}: answer exceeds the limit of {limit} bytes")

    def close(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            # Only a body read to its end leaves the connection fit for another request.
            release(self._connection.is_idle)

    def interrupt(self) -> None:
        """Wake a thread that waits for this answer; for it the connection is broken."""
        try:
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def abort(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release(False)

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transport:
    """Connections of one command to any number of hosts; safe to share between threads."""

    def __init__(
        self,
        *,
        cert_dir: str = "",
        timeout_s: float = STALL_TIMEOUT_S,
        environ: Mapping[str, str] | None = None,
        user_agent: str = "",
    ) -> None:
        self._cert_dir = cert_dir
        self._timeout_s = timeout_s
        self._env = os.environ if environ is None else environ
        self._user_agent = user_agent or f"rootless/{rootless.__version__}"
        self._idle: dict[tuple[str, str, bool], list[Connection]] = {}
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        body: Body = None,
        length: int | None = None,
        insecure: bool = False,
        cert_host: str = "",
        sent: Callable[[int], None] | None = None,
    ) -> Response:
        """Send one request and follow where it leads.

        `secrets` are headers for the first host only. `cert_host` names the folder in certs.d, where it is not the
        URL's host. `insecure` allows http and unknown certificates. `sent` is told of the bytes of a file that went out.
        """
        first = urlsplit(url)
        for _ in range(_MAX_REDIRECTS):
            parts = _checked(url, insecure)
            same_host = (parts.scheme, parts.netloc) == (first.scheme, first.netloc)
            outgoing = {"User-Agent": self._user_agent, **(headers or {})}
            if same_host:
                outgoing.update(secrets or {})
            response = self._send(
                method,
                parts,
                outgoing,
                body,
                length,
                insecure,
                cert_host if same_host and cert_host else parts.netloc,
                sent,
            )
            target = response.header("Location")
            if response.status not in (301, 302, 303, 307, 308) or not target:
                return response
            if method not in ("GET", "HEAD") and (
                body is not None or response.status not in (307, 308)
            ):
                response.abort()
                raise RegistryError(
                    f"{_place(url)}: redirects a {method} request, which cannot be followed"
                )
            response.close()
            url = urljoin(url, target)
        raise RegistryError(f"{_place(url)}: more than {_MAX_REDIRECTS} redirects")

    def close(self) -> None:
        with self._lock:
            for idle in self._idle.values():
                for connection in idle:
                    connection.close()
            self._idle.clear()

    def _send(
        self,
        method: str,
        parts: SplitResult,
        headers: Mapping[str, str],
        body: Body,
        length: int | None,
        insecure: bool,
        cert_host: str,
        sent: Callable[[int], None] | None,
    ) -> Response:
        key = (parts.scheme, parts.netloc, insecure)
        proxy = self._proxy_for(parts)
        path = parts.path or "/"
        if parts.query:
            path = f"{path}?{parts.query}"
        if proxy and parts.scheme == "http":
            path = f"http://{parts.netloc}{path}"
            if proxy.username:
                headers = {**headers, "Proxy-Authorization": _proxy_basic(proxy)}
        url = parts.geturl()
        lines = [("Host", parts.netloc), ("Accept-Encoding", "identity"), *headers.items()]
        if body is not None or method in ("POST", "PUT", "PATCH"):
            size = length if length is not None else len(body) if isinstance(body, bytes) else 0
            lines.append(("Content-Length", str(size)))
        while True:
            connection, reused = self._connection(key, parts, insecure, cert_host, proxy)
            try:
                connection.request(method, path, lines)
                if isinstance(body, bytes):
                    connection.sock.sendall(body)
                elif body is not None:
                    _send_file(connection, body, length or 0, sent or (lambda _: None))
                status, answered = connection.response(method)
            except (OSError, BadAnswer, CutOff) as error:
                connection.close()
                # A server may close an idle connection at any time; that is no failure of this request.
                stale = isinstance(error, (ConnectionError, CutOff)) and not connection.answered
                if reused and stale and (body is None or isinstance(body, bytes)):
                    continue
                raise _broken(url, error) from error
            break

        def release(healthy: bool) -> None:
            if healthy:
                with self._lock:
                    self._idle.setdefault(key, []).append(connection)
            else:
                connection.close()

        return Response(connection, status, answered, url, release)

    def _connection(
        self,
        key: tuple[str, str, bool],
        parts: SplitResult,
        insecure: bool,
        cert_host: str,
        proxy: SplitResult | None,
    ) -> tuple[Connection, bool]:
        with self._lock:
            idle = self._idle.get(key)
            if idle:
                return idle.pop(), True
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        to_host, to_port = (proxy.hostname or "", proxy.port or 3128) if proxy else (host, port)
        try:
            address = _as_bytes(to_host)
            sock = socket.create_connection((address, to_port), CONNECT_TIMEOUT_S)
        except OSError as error:
            raise _unreachable(parts, error, proxy) from error
        try:
            if parts.scheme == "https":
                if proxy:
                    _open_tunnel(sock, host, port, proxy)
                sock = self._context(cert_host, insecure).wrap_socket(
                    sock, server_hostname=_as_bytes(host)
                )
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(self._timeout_s)
        except (OSError, BadAnswer, CutOff) as error:
            sock.close()
            if isinstance(error, OSError):
                raise _unreachable(parts, error, proxy) from error
            raise _broken(parts.geturl(), error) from error
        except BaseException:
            sock.close()
            raise
        return Connection(sock), False

    def _context(self, host: str, insecure: bool) -> ssl.SSLContext:
        with self._lock:
            context = self._contexts.get((host, insecure))
            if context is None:
                context = self._contexts[host, insecure] = self._make_context(host, insecure)
            return context

    def _make_context(self, host: str, insecure: bool) -> ssl.SSLContext:
        import ssl

        if insecure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        directory = self._cert_dir or find_certs(host)
        if not directory:
            return context
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            raise RootlessError(
                f"{directory}: cannot read certificates: {error.strerror}"
            ) from error
        for name in names:
            path = f"{directory}/{name}"
            stem, _, extension = name.rpartition(".")
            try:
                if extension == "crt":
                    context.load_verify_locations(path)
                elif extension == "cert":
                    if f"{stem}.key" not in names:
                        raise RootlessError(
                            f"{path}: the client certificate has no key {stem}.key beside it"
                        )
                    context.load_cert_chain(path, f"{directory}/{stem}.key")
                elif extension == "key" and f"{stem}.cert" not in names:
                    raise RootlessError(
                        f"{path}: the key has no client certificate {stem}.cert beside it"
                    )
            except (OSError, ssl.SSLError) as error:
                raise RootlessError(
                    f"{path}: cannot load certificate or key: {error.strerror or error}"
                ) from error
        return context

    def _proxy_for(self, parts: SplitResult) -> SplitResult | None:
        env = self._env
        names = (
            ("HTTPS_PROXY", "https_proxy")
            if parts.scheme == "https"
            else ("HTTP_PROXY", "http_proxy")
        )
        value = next((env[name] for name in names if env.get(name)), "")
        if not value:
            return None
        if is_exempt(
            parts.hostname or "", parts.port, env.get("NO_PROXY") or env.get("no_proxy") or ""
        ):
            return None
        proxy = urlsplit(value if "://" in value else f"http://{value}")
        if proxy.scheme != "http" or not proxy.hostname:
            raise RootlessError(
                f"{names[0]}: {proxy.scheme}:// proxies are not supported",
                hint="use an http:// proxy",
            )
        return proxy


def find_certs(host: str) -> str:
    """Return the certs.d folder of a registry: the user's before the system's; empty if there is none."""
    if "/" in host or host in ("", ".", ".."):
        return ""
    for root in (f"{paths.config_home()}/containers/certs.d", *_CERT_ROOTS):
        if os.path.isdir(f"{root}/{host}"):
            return f"{root}/{host}"
    return ""


def is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    """Tell whether NO_PROXY, or being this machine, keeps a host from the proxy, as Go's httpproxy decides it."""
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in no_proxy.replace(" ", ",").split(","):
        name, _, entry_port = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
        if not name or (entry_port and entry_port != str(port)):
            continue
        if name == "*":
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(name, strict=False):
                    return True
            except ValueError:
                pass
            continue
        bare = name.lower().removeprefix("*").removeprefix(".")
        if host.lower().endswith(f".{bare}") or (host.lower() == bare and name[0] not in "*."):
            return True
    return False


def _checked(url: str, insecure: bool) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        raise RegistryError(f"{url[:200]!r}: not a URL") from None
    if parts.scheme not in ("https", "http") or not valid:
        raise RegistryError(f"{url[:200]!r}: a registry may point to http(s) addresses only")
    if parts.username or parts.password:
        raise RegistryError(
            f"{_place(url)}: a registry may not point to an address with a password in it"
        )
    if parts.scheme == "http" and not insecure:
        raise RegistryError(
            f"{_place(url)}: refusing to go on without TLS",
            hint="declare the registry insecure in registries.conf or give --tls-verify=false",
        )
    return parts


def _open_tunnel(sock: socket.socket, host: str, port: int, proxy: SplitResult) -> None:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = [("Host", place)]
    if proxy.username:
        headers.append(("Proxy-Authorization", _proxy_basic(proxy)))
    connection = Connection(sock)
    connection.request("CONNECT", place, headers)
    # As a HEAD's, its answer has no body: what follows is the other end's.
    status, _ = connection.response("HEAD")
    if status != 200:
        raise OSError(0, f"the proxy answered {status}")


def _send_file(
    connection: Connection, body: IO[bytes], length: int, sent: Callable[[int], None]
) -> None:
    sock = connection.sock
    plain = type(sock) is socket.socket
    while length > 0:
        if plain:
            count = sock.sendfile(body, body.tell(), min(length, _SEND_BYTES)) or 0
        else:
            data = body.read(min(length, 1 << 18))
            sock.sendall(data)
            count = len(data)
        if not count:
            raise ConnectionError("the file to send is shorter than it was")
        length -= count
        sent(count)


def _as_bytes(host: str) -> Any:
    """A host's name for those who take strings too, but load the codec of international names for each."""
    return host.encode("ascii" if host.isascii() else "idna")


def _unreachable(parts: SplitResult, error: OSError, proxy: SplitResult | None) -> ConnectionFailed:
    import ssl

    where = parts.netloc + (f" through the proxy {proxy.hostname}:{proxy.port}" if proxy else "")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            f"{where}: certificate not accepted: {error.verify_message}",
            permanent=True,
            hint=f"put its CA into ~/.config/containers/certs.d/{parts.netloc}/ca.crt",
        )
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        plain = "http" in reason or "wrong version" in reason or "record layer" in reason
        hint = (
            "the registry speaks no TLS; if that is wanted, give --tls-verify=false"
            if plain
            else ""
        )
        return ConnectionFailed(f"{where}: TLS failed: {reason}", permanent=True, hint=hint)
    if isinstance(error, socket.gaierror):
        # EAI_AGAIN is the resolver's own word for "try again".
        permanent = error.errno != socket.EAI_AGAIN
        return ConnectionFailed(
            f"{where}: host name not found: {error.strerror}", permanent=permanent
        )
    if isinstance(error, TimeoutError):
        return ConnectionFailed(f"{where}: no connection within {CONNECT_TIMEOUT_S:.0f} s")
    return ConnectionFailed(
        f"{where}: cannot connect: {error.strerror or error}",
        permanent=isinstance(error, ConnectionRefusedError),
    )


def _broken(url: str, error: Exception) -> ConnectionFailed:
    if isinstance(error, TimeoutError):
        reason = "no data for too long"
    elif isinstance(error, OSError):
        reason = error.strerror or str(error) or "connection lost"
    elif isinstance(error, CutOff):
        reason = "connection cut off"
    else:
        reason = f"not an HTTP answer: {error}"
    return ConnectionFailed(f"{_place(url)}: {reason}")


def _place(url: str) -> str:
    """Return a URL for a message: without its query, which may carry a signature that is as good as a password."""
    return url.partition("?")[0][:200]


def _proxy_basic(proxy: SplitResult) -> str:
    import base64
    from urllib.parse import unquote

    pair = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
