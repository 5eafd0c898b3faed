"""Requests to one registry with what it takes to be let in: tokens, passwords, TLS or not, refusals as errors.

Tokens follow docker's token and OAuth2 specifications.
"""

from __future__ import annotations

import threading
import time
from urllib.parse import quote, urlencode, urljoin, urlsplit

from rootless import quickjson as json
from rootless.errors import RegistryError
from rootless.image.auth import Credentials
from rootless.image.challenge import Challenge, parse_challenges
from rootless.image.retry import AuthError, NotThere, Overloaded, Retry, retry_after
from rootless.image.transport import ConnectionFailed, Response, Transport
from rootless.oci.document import parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from rootless.image.transport import Body

_ERROR_MAX_BYTES = 64 << 10
LISTING_MAX_BYTES = 16 << 20
_TOKEN_MAX_BYTES = 1 << 20
_TOKEN_DEFAULT_S = 60
_PAGES_MAX = 1000


class Connection:
    """One registry host; safe to share between threads."""

    def __init__(
        self,
        host: str,
        transport: Transport,
        *,
        insecure: bool = False,
        credentials: Callable[[str], Credentials | None] | Credentials | None = None,
        retry: Retry | None = None,
    ) -> None:
        self.host = host
        self.insecure = insecure
        self.retry = retry or Retry()
        self._transport = transport
        self._credentials = credentials
        self._address = "registry-1.docker.io" if host == "docker.io" else host
        self._base = "" if insecure else f"https://{self._address}"
        self._challenges: list[Challenge] = []
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._token_lock = threading.Lock()

    def _pages(
        self, path: str, repositories: tuple[str, ...], actions: str, what: str
    ) -> Iterator[dict[str, Any]]:
        url = path
        for _ in range(_PAGES_MAX):
            with self._page(url, repositories, actions, what) as response:
                document = parse_object(
                    response.read(LISTING_MAX_BYTES), what, max_bytes=LISTING_MAX_BYTES
                )
                link = response.header("Link")
                here = response.url
            yield document
            target, _, parameters = link.partition(">")
            if not target.startswith("<") or 'rel="next"' not in parameters.replace(
                "rel=next", 'rel="next"'
            ):
                return
            url = urljoin(here, target[1:])
            if urlsplit(url).netloc != urlsplit(here).netloc:
                raise RegistryError(f"{what}: the next page is on another host")

    def _page(self, url: str, repositories: tuple[str, ...], actions: str, what: str) -> Response:
        return self.retry.run(lambda: self._call("GET", url, repositories, actions, what))

    def _call(
        self,
        method: str,
        path: str,
        repositories: tuple[str, ...],
        actions: str,
        what: str,
        headers: dict[str, str] | None = None,
        body: Body = None,
        length: int | None = None,
        *,
        also_pull: str = "",
        sent: Callable[[int], None] | None = None,
    ) -> Response:
        """Send a request with authorisation; raise for every status that is not a success."""
        self._find_base()
        url = path if "://" in path else self._base + path
        scopes = tuple(f"repository:{name}:{actions}" for name in repositories)
        if also_pull:
            scopes += (f"repository:{also_pull}:pull",)
        # An upload's location may be on a host of the registry's choice: our credentials stay at home.
        at_home = urlsplit(url)[:2] == urlsplit(self._base)[:2]
        position = body.tell() if body is not None and not isinstance(body, bytes) else 0
        wanted_scopes, response = scopes, None
        for attempt in (0, 1, 2):
            secrets = self._authorization(wanted_scopes) if at_home else {}
            if position and body is not None and not isinstance(body, bytes):
                body.seek(position)
            response = self._transport.request(
                method,
                url,
                headers=headers,
                secrets=secrets,
                body=body,
                length=length,
                insecure=self.insecure,
                cert_host=self.host,
                sent=sent,
            )
            if response.status != 401 or not at_home or attempt == 2:
                break
            if urlsplit(response.url)[:2] != urlsplit(self._base)[:2]:
                break  # a host that we were redirected to has no claim to our credentials
            challenges = [
                one
                for text in response.headers("WWW-Authenticate")
                for one in parse_challenges(text)
            ]
            usable = [one for one in challenges if one.scheme in ("bearer", "basic")]
            if not usable or (attempt == 1 and not self._may_help(usable, wanted_scopes)):
                break
            response.abort() if response.length else response.close()
            with self._lock:
                self._challenges = usable
                if attempt:
                    self._tokens.clear()
            asked = next(
                (one.parameters.get("scope", "") for one in usable if one.scheme == "bearer"), ""
            )
            wanted_scopes = (
                tuple(dict.fromkeys((*scopes, *asked.split()))) if not scopes or attempt else scopes
            )
            if body is not None and not isinstance(body, bytes):
                body.seek(position)
        assert response is not None
        if response.status in (200, 201, 202, 204, 206):
            return response
        raise self._refusal(response, what)

    def _may_help(self, challenges: list[Challenge], scopes: tuple[str, ...]) -> bool:
        """Tell whether a second 401 can be mended: a token may have expired, or lack a scope that is now named."""
        for one in challenges:
            if one.scheme == "bearer" and one.parameters.get("error") in (
                "invalid_token",
                "insufficient_scope",
                None,
            ):
                return bool(self._tokens) or any(
                    s not in scopes for s in one.parameters.get("scope", "").split()
                )
        return False

    def _find_base(self) -> None:
        """Find out whether an insecure registry speaks TLS: it may, and then it shall."""
        with self._lock:
            if self._base:
                return
            base = f"https://{self._address}"
            try:
                self._knock(base)
            except ConnectionFailed as secure_error:
                base = f"http://{self._address}"
                try:
                    self._knock(base)
                except ConnectionFailed:
                    raise secure_error from None
            self._base = base

    def _knock(self, base: str) -> None:
        with self._transport.request(
            "GET", f"{base}/v2/", insecure=True, cert_host=self.host
        ) as response:
            # Read, so that the connection is kept for what follows.
            if response.length is not None and response.length <= _ERROR_MAX_BYTES:
                response.read(_ERROR_MAX_BYTES)

    def _authorization(self, scopes: tuple[str, ...]) -> dict[str, str]:
        with self._lock:
            challenges = self._challenges
        bearer = next((one for one in challenges if one.scheme == "bearer"), None)
        if bearer is not None:
            token = self._token(bearer, scopes)
            return {"Authorization": f"Bearer {token}"}
        if challenges:
            credentials = self._credentials_for(scopes)
            if credentials is not None and credentials.username:
                return {"Authorization": f"Basic {credentials.basic()}"}
        return {}

    def _credentials_for(self, scopes: tuple[str, ...]) -> Credentials | None:
        if self._credentials is None or isinstance(self._credentials, Credentials):
            return self._credentials
        repository = scopes[0].split(":")[1] if scopes else ""
        return self._credentials(f"{self.host}/{repository}" if repository else self.host)

    def _token(self, challenge: Challenge, scopes: tuple[str, ...]) -> str:
        realm, service = (
            challenge.parameters.get("realm", ""),
            challenge.parameters.get("service", ""),
        )
        key = (realm, service, *scopes)
        with self._token_lock:  # several layers start at once and need one token
            known = self._tokens.get(key)
            if known is not None and known[1] > time.monotonic():
                return known[0]
            token, lifetime_s = self._fetch_token(realm, service, scopes)
            # Used for nine tenths of its life, so that it does not run out on the way.
            self._tokens[key] = (token, time.monotonic() + lifetime_s * 0.9)
            return token

    def _fetch_token(self, realm: str, service: str, scopes: tuple[str, ...]) -> tuple[str, float]:
        what = f"{self.host}: asking {realm.partition('?')[0][:200]} for a token"
        if not realm:
            raise AuthError(f"{self.host}: its challenge names no realm", code="UNAUTHORIZED")
        credentials = self._credentials_for(scopes)
        if credentials is not None and credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "service": service,
                "scope": " ".join(scopes),
                "client_id": "rootless",
            }
            response = self._transport.request(
                "POST",
                realm,
                secrets={"Content-Type": "application/x-www-form-urlencoded"},
                body=urlencode(form).encode(),
                insecure=self.insecure,
            )
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in scopes]
            secrets = {}
            if credentials is not None and credentials.username:
                query.insert(0, ("account", credentials.username))
                secrets["Authorization"] = f"Basic {credentials.basic()}"
            response = self._transport.request(
                "GET",
                with_query(realm, dict(query), query),
                secrets=secrets,
                insecure=self.insecure,
            )
        with response:
            if response.status != 200:
                raise self._refusal(response, what)
            answer = parse_object(response.read(_TOKEN_MAX_BYTES), what, max_bytes=_TOKEN_MAX_BYTES)
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise AuthError(f"{what}: the answer holds none", code="UNAUTHORIZED")
        lifetime = answer.get("expires_in")
        return token, float(lifetime) if isinstance(
            lifetime, (int, float)
        ) and lifetime > 0 else _TOKEN_DEFAULT_S

    def _refusal(self, response: Response, what: str) -> RegistryError:
        status = response.status
        code, message = str(status), ""
        try:
            data = response.read(_ERROR_MAX_BYTES)
            first = (json.loads(data).get("errors") or [{}])[0]
            code, message = str(first.get("code") or code), str(first.get("message") or "")
        except (RegistryError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
            response.abort()
        message = printable(message)
        if status == 429:
            return Overloaded(
                f"{what}: too many requests: {message or 'the registry limits how much you may pull'}",
                code=code or "TOOMANYREQUESTS",
                hint=f"wait, or `rootless login {self.host}` for a higher limit",
                retry_after_s=retry_after(response.header("Retry-After")),
            )
        if status in (401, 403):
            known = (
                "authentication required"
                if status == 401
                else "requested access to the resource is denied"
            )
            return AuthError(
                f"{what}: {message or known}", code=code, hint=f"`rootless login {self.host}`"
            )
        if status == 404:
            return NotThere(f"{what}: {message or 'not found'}", code=code)
        if status in (408, 500, 502, 503, 504):
            return Overloaded(
                f"{what}: the registry answered {status}{': ' + message if message else ''}",
                code=code,
                retry_after_s=retry_after(response.header("Retry-After")),
            )
        if 300 <= status < 400:
            message = message or "a redirect without an address"
        return RegistryError(
            f"{what}: the registry answered {status}{': ' + message if message else ''}", code=code
        )


def printable(text: str) -> str:
    """Return a registry's words for a terminal: one line, bounded, without control characters."""
    return "".join(char if char.isprintable() else " " for char in text[:500]).strip()


def with_query(url: str, query: dict[str, str], pairs: list[tuple[str, str]] | None = None) -> str:
    """Add parameters to a URL that may have some, which are left as they are: they may be signed."""
    text = urlencode(pairs if pairs is not None else query, quote_via=quote)
    if not text:
        return url
    return f"{url}{'&' if '?' in url else '?'}{text}"
