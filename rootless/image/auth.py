"""Registry credentials: auth.json, docker's config.json and credential helpers.

containers-auth.json(5). Passwords are kept nowhere else and appear in no message and no argument list.
"""

from __future__ import annotations

import os

from rootless import files, log, paths
from rootless import quickjson as json
from rootless.errors import NotFound, RootlessError, Usage
from rootless.image import reference
from rootless.image.registries import AUTH_FILE_HELPER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# The user name by which credential helpers mark an OAuth2 identity token.
TOKEN_USER = "<token>"
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_TIMEOUT_S = 60


class Credentials:
    """What shows a registry who we are."""

    __slots__ = ("identity_token", "password", "username")

    def __init__(self, username: str, password: str = "", identity_token: str = "") -> None:
        self.username = username
        self.password = password
        self.identity_token = identity_token

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"

    def basic(self) -> str:
        import base64

        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def parse_creds(text: str, ask: Callable[[str], str]) -> Credentials:
    """Parse `--creds user[:password]`; `ask` gets a missing password, or fails with the remedy that it is given."""
    user, colon, password = text.partition(":")
    if not user:
        raise Usage("--creds: the user name is empty", hint="give --creds USER:PASSWORD")
    if not colon:
        password = ask("give --creds USER:PASSWORD")
    return Credentials(user, password)


def default_authfile(env: Mapping[str, str] | None = None) -> str:
    """Return the file that the environment puts in the place of the usual ones; empty if none."""
    env = os.environ if env is None else env
    if env.get("REGISTRY_AUTH_FILE"):
        return env["REGISTRY_AUTH_FILE"]
    if env.get("DOCKER_CONFIG"):
        return f"{env['DOCKER_CONFIG']}/config.json"
    return ""


def primary_path() -> str:
    """The file that login writes: it lives as long as the user's session."""
    if os.geteuid() == 0:
        return "/run/containers/0/auth.json"
    return f"{paths.runtime_home()}/containers/auth.json"


def search_paths(authfile: str = "", env: Mapping[str, str] | None = None) -> list[str]:
    """The files in which credentials are looked for, in this order."""
    authfile = authfile or default_authfile(env)
    if authfile:
        return [authfile]
    home = paths.home()
    return [
        primary_path(),
        f"{paths.config_home()}/containers/auth.json",
        f"{home}/.docker/config.json",
        f"{home}/.dockercfg",
    ]


def check_authfile(authfile: str) -> None:
    """Refuse an explicitly named file that is not there, as Podman does."""
    if authfile and not os.path.exists(authfile):
        raise NotFound(f"credential file is not accessible: {authfile}: no such file or directory")


def lookup(
    key: str,
    authfile: str = "",
    helpers: list[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Credentials | None:
    """Find the credentials for `host[:port][/namespace…]`; the most specific entry wins."""
    for helper in helpers or [AUTH_FILE_HELPER]:
        if helper != AUTH_FILE_HELPER:
            found = _ask_helper(helper, key.partition("/")[0])
            if found is not None:
                return found
            continue
        for path in search_paths(authfile, env):
            found = _lookup_in(path, key)
            if found is not None:
                return found
    return None


def store(key: str, credentials: Credentials, path: str, *, docker_format: bool = False) -> str:
    """Write credentials into a file, or the helper that it names; return where they went."""
    _check_key(key)
    with _edit(path) as document:
        helper = _helper_for(document, key)
        if helper:
            if "/" in key:
                raise Usage(
                    f"{key}: credential helper {helper} keeps credentials for whole registries only"
                )
            payload = {
                "ServerURL": key,
                "Username": credentials.username,
                "Secret": credentials.password,
            }
            _run_helper(helper, "store", json.dumps(payload))
            return f"docker-credential-{helper}"
        auths = document.setdefault("auths", {})
        for old in _keys_of(auths, key):
            del auths[old]
        name = _DOCKER_HUB_KEY if docker_format and key == reference.DEFAULT_DOMAIN else key
        auths[name] = {"auth": credentials.basic()}
    return path


def erase(key: str, path: str) -> bool:
    """Remove the credentials for one key; tell whether there were any."""
    _check_key(key)
    if not os.path.exists(path):
        return False
    with _edit(path) as document:
        helper = _helper_for(document, key)
        if helper:
            known = _ask_helper(helper, key) is not None
            if known:
                _run_helper(helper, "erase", key)
            return known
        found = _keys_of(document.get("auths", {}), key)
        for old in found:
            del document["auths"][old]
    return bool(found)


def erase_all(path: str) -> None:
    """Forget every credential of a file, those that helpers keep for it too."""
    with _edit(path) as document:
        for helper in {document.get("credsStore"), *document.get("credHelpers", {}).values()} - {
            None
        }:
            for server in json.loads(_run_helper(helper, "list", "") or "{}"):
                _run_helper(helper, "erase", server)
        document["auths"] = {}
        document.pop("credHelpers", None)


def check_key(registry: str) -> str:
    """Return what a user gave to login as an auth.json key, or refuse it."""
    for scheme in ("https://", "http://"):
        if registry.startswith(scheme):
            # Podman takes the scheme off a bare host only, and nothing else is unambiguous.
            registry = registry[len(scheme) :].rstrip("/")
    _check_key(registry)
    return registry


def _check_key(key: str) -> None:
    host, slash, path = key.partition("/")
    try:
        ref = reference.parse(
            f"{host}/{path or 'x'}" if "." in host or ":" in host else f"localhost/{host}"
        )
    except RootlessError as error:
        raise Usage(f"{key!r} is not a registry: {error}") from error
    if ref.tag or ref.digest:
        raise Usage(
            f"{key!r}: credentials are kept for a registry or repository, not for a tag or digest"
        )
    if slash and not path:
        raise Usage(f"{key!r} is not a registry: it ends in a slash")


def _lookup_in(path: str, key: str) -> Credentials | None:
    document = read(path)
    helper = _helper_for(document, key)
    if helper:
        found = _ask_helper(helper, key.partition("/")[0])
        if found is not None:
            return found
    auths = document.get("auths", {})
    candidate = key
    while True:
        for name in _keys_of(auths, candidate):
            found = _decode(path, name, auths[name])
            if found is not None:
                return found
        parent, slash, _ = candidate.rpartition("/")
        if not slash:
            return None
        candidate = parent


def read(path: str) -> dict[str, Any]:
    """Read one auth file; a missing one is empty, a damaged one an error."""
    try:
        document = json.loads(files.read_bytes(path) or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError as error:
        raise RootlessError(f"{path}: cannot read credentials: {error.strerror}") from error
    except ValueError as error:
        raise RootlessError(f"{path}: not a JSON file of credentials: {error}") from error
    if path.endswith("/.dockercfg") and isinstance(document, dict):
        document = {"auths": document}
    auths = document.get("auths") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance({} if auths is None else auths, dict):
        raise RootlessError(f"{path}: not a JSON file of credentials")
    document["auths"] = auths or {}
    if not all(isinstance(one, dict) for one in document["auths"].values()):
        raise RootlessError(f"{path}: an entry of auths is not an object")
    if not isinstance(document.get("credHelpers") or {}, dict):
        raise RootlessError(f"{path}: credHelpers is not an object")
    return document


def _decode(path: str, name: str, entry: dict[str, Any]) -> Credentials | None:
    token = entry.get("identitytoken")
    text = entry.get("auth") or ""
    if not text and not token:
        return None
    import base64
    import binascii

    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, TypeError) as error:
        raise RootlessError(f"{path}: the entry of {name} is damaged: {error}") from None
    if not colon and not token:
        raise RootlessError(f"{path}: the entry of {name} is not a user name and a password")
    return Credentials(user, password.rstrip("\0"), token if isinstance(token, str) else "")


def _keys_of(auths: dict[str, Any], key: str) -> list[str]:
    """Return the file's spellings of a key: docker writes URLs where Podman writes hosts."""
    wanted = _normalise(key)
    return sorted(
        (name for name in auths if _normalise(name) == wanted), key=lambda name: name != key
    )


def _normalise(key: str) -> str:
    bare = key.removeprefix("https://").removeprefix("http://")
    if bare != key:
        bare = bare.partition("/")[0]
    return "docker.io" if bare in ("index.docker.io", "registry-1.docker.io") else bare


def _helper_for(document: dict[str, Any], key: str) -> str:
    host = key.partition("/")[0]
    for name, helper in (document.get("credHelpers") or {}).items():
        if _normalise(name) == _normalise(host):
            return str(helper)
    return str(document.get("credsStore") or "")


def _ask_helper(helper: str, host: str) -> Credentials | None:
    servers = [host] if host != reference.DEFAULT_DOMAIN else [host, _DOCKER_HUB_KEY]
    for server in servers:
        try:
            answer = json.loads(_run_helper(helper, "get", server) or "null")
        except ValueError:
            raise RootlessError(f"docker-credential-{helper}: its answer is not JSON") from None
        if isinstance(answer, dict) and answer.get("Username"):
            user, secret = str(answer["Username"]), str(answer.get("Secret", ""))
            if user == TOKEN_USER:
                return Credentials("", "", secret)
            return Credentials(user, secret)
    return None


def _run_helper(helper: str, verb: str, text: str) -> str:
    import subprocess

    # A path here would let a configuration file of another tool name any program.
    if "/" in helper or helper.startswith(".") or not helper:
        raise RootlessError(f"credential helper {helper!r} is not a plain name")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, verb],
            input=text,
            capture_output=True,
            text=True,
            timeout=_HELPER_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise NotFound(
            f"{program}: no such program in PATH",
            hint=f"install it or remove {helper!r} from credHelpers or credsStore",
        ) from None
    except subprocess.TimeoutExpired:
        raise RootlessError(f"{program} {verb}: no answer within {_HELPER_TIMEOUT_S} s") from None
    if done.returncode:
        message = (done.stdout + done.stderr).strip()
        if verb == "get" and "not found" in message:
            return ""
        raise RootlessError(
            f"{program} {verb} failed: {message or f'exit status {done.returncode}'}"
        )
    return done.stdout


class _edit:
    """Read, change and replace one auth file under a lock."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)

    def __enter__(self) -> dict[str, Any]:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        self._lock = files.Lock(f"{self.path}.lock")
        self._lock.acquire()
        try:
            self._document = read(self.path)
        except BaseException:
            self._lock.release()
            raise
        self._before = json.dumps(self._document)
        return self._document

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and json.dumps(self._document) != self._before:
                shown: object = self._document
                if self.path.endswith("/.dockercfg"):
                    shown = self._document["auths"]
                files.write_atomic(self.path, (_pretty(shown) + "\n").encode())
        finally:
            self._lock.release()


def _pretty(document: object) -> str:
    import json

    return json.dumps(document, indent="\t")


def warn_if_lost() -> None:
    """Say where a login goes when there is no session folder to keep it in."""
    if not os.environ.get("XDG_RUNTIME_DIR") and os.geteuid():
        log.warn(f"XDG_RUNTIME_DIR is not set: the login is kept in {primary_path()}")
