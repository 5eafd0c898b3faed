"""What one command needs to talk to registries: configuration, credentials, connections, policy."""

from __future__ import annotations

import threading

from rootless.errors import Usage
from rootless.image import auth, policy, registries
from rootless.image.reference import Reference
from rootless.image.registries import Endpoint, Registries
from rootless.image.registry import Registry
from rootless.image.retry import Retry
from rootless.image.transport import Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Access:
    """The options that all commands have which talk to registries."""

    def __init__(
        self,
        authfile: str = "",
        credentials: auth.Credentials | None = None,
        cert_dir: str = "",
        tls_verify: bool | None = None,
        retry: int = 3,
        retry_delay_s: float | None = None,
        signature_policy: str = "",
    ) -> None:
        self.authfile = authfile
        self.credentials = credentials
        self.cert_dir = cert_dir
        # None: as registries.conf says.
        self.tls_verify = tls_verify
        self.retry = retry
        self.retry_delay_s = retry_delay_s
        self.signature_policy = signature_policy


class Session:
    """Registries by host, each with one set of connections and tokens."""

    def __init__(self, access: Access | None = None) -> None:
        self.access = access or Access()
        auth.check_authfile(self.access.authfile)
        self.transport = Transport(cert_dir=self.access.cert_dir)
        self._retry = Retry(self.access.retry, self.access.retry_delay_s)
        self._config: Registries | None = None
        self._policy: policy.Policy | None = None
        self._registries: dict[tuple[str, bool], Registry] = {}
        self._lock = threading.Lock()

    @property
    def config(self) -> Registries:
        if self._config is None:
            self._config = registries.load()
        return self._config

    @property
    def policy(self) -> policy.Policy:
        if self._policy is None:
            self._policy = policy.load(self.access.signature_policy)
        return self._policy

    def is_insecure(self, configured: bool) -> bool:
        return configured if self.access.tls_verify is None else not self.access.tls_verify

    def registry(self, host: str, *, insecure: bool) -> Registry:
        """Return the client for a host; `insecure` is what registries.conf says."""
        key = (host, self.is_insecure(insecure))
        with self._lock:
            if key not in self._registries:
                self._registries[key] = Registry(
                    host,
                    self.transport,
                    insecure=key[1],
                    credentials=self.credentials_for,
                    retry=self._retry,
                )
            return self._registries[key]

    def at(self, endpoint: Endpoint) -> Registry:
        return self.registry(endpoint.reference.domain, insecure=endpoint.insecure)

    def serves(self, host: str) -> bool:
        """Whether this session has talked to a host already."""
        with self._lock:
            return any(key[0] == host for key in self._registries)

    def for_push(self, ref: Reference) -> Registry:
        """Return the client for a reference's own registry; mirrors and rewriting are for pulls only."""
        self.config.check_blocked(ref)
        return self.registry(ref.domain, insecure=self.config.is_insecure(ref))

    def credentials_for(self, key: str) -> auth.Credentials | None:
        if self.access.credentials is not None:
            return self.access.credentials
        return auth.lookup(key, self.access.authfile, self.config.helpers)

    def close(self) -> None:
        self.transport.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Reporter:
    """Takes the news of a transfer; this one keeps quiet. `blob` and its answers are called from many threads."""

    def __init__(self) -> None:
        # Asks for one of several registries; None where nobody can be asked.
        self.choose: Callable[[str, list[str]], int] | None = None

    def say(self, line: str) -> None:
        """Tell a line of progress."""

    def blob(self, kind: str, digest: str, size: int) -> Progress:
        return Progress()

    def stop(self) -> None:
        """Nothing is on its way any more, well or ill."""


class Progress:
    """One blob's progress."""

    def advance(self, count: int) -> None:
        """`count` more bytes have come or gone."""

    def done(self, word: str = "done") -> None:
        """It is there; `word` says how."""


def parse_delay(text: str) -> float | None:
    """Read --retry-delay, a Go duration."""
    from rootless import durations

    if not text:
        return None
    try:
        return durations.parse(text) / durations.SECOND
    except ValueError:
        raise Usage(f"--retry-delay: {text!r} is not a duration such as 5s or 1m30s") from None
