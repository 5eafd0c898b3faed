"""`rootless login` and `rootless logout`: keep and forget credentials of registries."""

from __future__ import annotations

from rootless.cli import registry_options as shared
from rootless.cli.table import Command, Option
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.image.auth import Credentials
    from rootless.image.session import Session

_COMPAT = Option("compat-auth-file", "str", "Use docker's config.json at this path", metavar="path")


def login(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.image import auth, session

    path, compat = _file(inv)
    key = _key(inv)
    if inv.flag("get-login"):
        known = auth.lookup(key, path if compat or inv.given("authfile") else "")
        if known is None or not known.username:
            raise RootlessError(f"not logged into {key}")
        output.line(known.username)
        return 0
    access = shared.access(inv)
    access.authfile = ""  # need not exist yet
    with session.Session(access) as talking:
        credentials = _ask(inv, key, path, talking)
        if credentials is None:
            output.line("Existing credentials are valid. Already logged in to " + key)
            return 0
        _check(talking, key, credentials)
    where = auth.store(key, credentials, path or auth.primary_path(), docker_format=compat)
    if inv.flag("verbose"):
        output.line(f"Used:  {where}")
    if not path:
        auth.warn_if_lost()
    output.line("Login Succeeded!")
    return 0


def _file(inv: Invocation) -> tuple[str, bool]:
    """Return the file to use, empty for the usual one, and whether it is docker's."""
    from rootless.image import auth

    if inv.text("compat-auth-file"):
        if inv.given("authfile"):
            raise Usage(
                "options for paths to the credential file and to the Docker-compatible credential file can not be set simultaneously"
            )
        return inv.text("compat-auth-file"), True
    return inv.text("authfile") or auth.default_authfile(), False


def _key(inv: Invocation) -> str:
    from rootless.image import auth, registries

    if inv.args:
        return auth.check_key(inv.args[0])
    found = registries.load().search
    if not found:
        raise Usage("no registries found in registries.conf, a registry must be provided")
    if len(found) > 1:
        raise Usage(
            "more than one registry found in registries.conf, a registry must be provided",
            hint=f"name one of {', '.join(found)}",
        )
    return found[0]


def _ask(inv: Invocation, key: str, path: str, talking: Session) -> Credentials | None:
    """Get the credentials from options, standard input or the user; None where those known are good."""
    import os
    import sys

    from rootless.cli import prompt
    from rootless.image import auth

    user, password = inv.text("username"), inv.text("password")
    if inv.flag("password-stdin"):
        if inv.given("password"):
            raise Usage("can't specify both --password-stdin and --password")
        if not user:
            raise Usage("must provide --username with --password-stdin")
        password = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").rstrip("\r\n")
    known = None if user else auth.lookup(key, path)
    if known is not None and not user and not password:
        try:
            _check(talking, key, known)
        except RootlessError:
            sys.stderr.write(
                "Authenticating with existing credentials failed, please provide others\n"
            )
        else:
            return None
    if (not user or not password) and not os.isatty(0):
        raise Usage(
            "getting username and password: cannot prompt without stdin",
            hint="give --username and --password-stdin",
        )
    if not user:
        shown = f" ({known.username})" if known is not None and known.username else ""
        sys.stdout.write(f"Username{shown}: ")
        sys.stdout.flush()
        user = sys.stdin.readline().strip() or (known.username if known is not None else "")
    if not password:
        password = prompt.password("give --username and --password-stdin")
    if not user or not password:
        raise Usage("username and password must not be empty")
    if ":" in user:
        raise Usage("the user name must not contain a colon")
    return auth.Credentials(user, password)


def _check(talking: Session, key: str, credentials: Credentials) -> None:
    """Show the credentials to the registry."""
    from rootless.image import reference, registries
    from rootless.image.retry import AuthError

    host = key.partition("/")[0]
    table = talking.config.find(reference.Reference(host, key.partition("/")[2] or "x"))
    endpoint = registries.Endpoint(reference.Reference(host, "x"), bool(table and table.insecure))
    talking.access.credentials = credentials
    try:
        talking.at(endpoint).ping()
    except AuthError as error:
        raise AuthError(
            f"logging into {key!r}: invalid username/password", code=error.code
        ) from error
    finally:
        talking.access.credentials = None


def logout(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.image import auth

    path, _ = _file(inv)
    path = path or auth.primary_path()
    if inv.flag("all"):
        if inv.args:
            raise Usage("--all takes no arguments")
        auth.erase_all(path)
        output.line("Removed login credentials for all registries")
        return 0
    key = _key(inv)
    if auth.erase(key, path):
        output.line(f"Removed login credentials for {key}")
        return 0
    elsewhere = auth.lookup(key, "" if not inv.given("authfile") else path)
    if elsewhere is not None:
        output.line(
            f"Not logged into {key} with current tool. Existing credentials were established via docker login. "
            "Please use docker logout instead."
        )
        return 0
    raise RootlessError(f"not logged into {key}")


COMMAND = Command(
    "[options] [REGISTRY]",
    login,
    (
        shared.AUTHFILE,
        shared.CERT_DIR,
        _COMPAT,
        Option("get-login", "bool", "Print the user that is logged in"),
        Option("password", "str", "Password (others may see it in the process list)", short="p"),
        Option("password-stdin", "bool", "Read the password from standard input"),
        Option(
            "secret",
            "str",
            "",
            hidden=True,
            refused="secrets are not available in this version; use --password-stdin",
        ),
        shared.TLS_VERIFY,
        Option("username", "str", "User name", short="u"),
        Option("verbose", "bool", "Tell where the credentials are kept", short="v"),
    ),
    args=(0, 1),
    description="Keeps the user name and password for a registry, after showing them to it.",
    examples=(
        "login registry.example.org",
        "login -u me --password-stdin registry.example.org/team",
    ),
)
LOGOUT = Command(
    "[options] [REGISTRY]",
    logout,
    (Option("all", "bool", "Forget all credentials", short="a"), shared.AUTHFILE, _COMPAT),
    args=(0, 1),
    description="Forgets the user name and password for a registry.",
    examples=("logout registry.example.org", "logout --all"),
)
