"""What the commands share that talk to registries: their options, and how they show progress."""

from __future__ import annotations

import os
import sys

from rootless.cli.table import Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.table import Invocation
    from rootless.errors import RootlessError
    from rootless.image.session import Access, Reporter
    from rootless.image.store import ImageStore

AUTHFILE = Option("authfile", "str", "File of the registry logins", metavar="path")
CERT_DIR = Option("cert-dir", "str", "Folder of certificates for the registry", metavar="path")
CREDS = Option(
    "creds", "str", "Credentials for the registry; asks for the rest", metavar="user[:password]"
)
TLS_VERIFY = Option(
    "tls-verify", "bool", "Want TLS and a known certificate of the registry", default=True
)
RETRY = Option("retry", "uint", "Further attempts after a failure", default=3)
RETRY_DELAY = Option(
    "retry-delay", "str", "Pause between attempts (default: growing)", metavar="duration"
)
CONTENT_TRUST = Option(
    "disable-content-trust", "bool", "For Docker's command lines; policy.json decides", hidden=True
)
QUIET = Option("quiet", "bool", "Print the result only", short="q")


def access(inv: Invocation) -> Access:
    """Read the options above, as far as the command has them."""
    from rootless.cli import prompt
    from rootless.container.engine import open_engine
    from rootless.image import auth, session

    options = inv.options
    if inv.given("disable-content-trust") and not inv.flag("disable-content-trust"):
        raise Usage(
            "--disable-content-trust=false: there is no Docker Content Trust here",
            hint="policy.json says whose signatures are wanted",
        )
    creds = options.get("creds", "")
    config = open_engine(inv.globals).config
    return session.Access(
        authfile=options.get("authfile", ""),
        credentials=auth.parse_creds(creds, prompt.password) if creds else None,
        cert_dir=options.get("cert-dir", ""),
        tls_verify=options.get("tls-verify") if inv.given("tls-verify") else None,
        retry=inv.number("retry") if inv.given("retry") else config.number("engine", "retry"),
        retry_delay_s=session.parse_delay(
            options.get("retry-delay", "") or config.text("engine", "retry_delay")
        ),
    )


def store(inv: Invocation) -> ImageStore:
    """The image store of this command line."""
    from rootless.container.engine import open_engine

    return open_engine(inv.globals).images


def reporter(*, quiet: bool = False) -> Reporter:
    """Bars on a terminal, Podman's plain lines elsewhere; nothing where quiet is wanted."""
    from rootless.image.session import Reporter

    if quiet:
        shown = Reporter()
    elif os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb":
        from rootless.cli.progress import Bars

        shown = Bars()
    else:
        shown = _lines()
    if sys.stdin is not None and os.isatty(0) and os.isatty(1):
        shown.choose = _choose
    return shown


def _choose(name: str, names: list[str]) -> int:
    os.write(2, f"Please select an image for {name}:\n".encode())
    for number, one in enumerate(names, 1):
        os.write(2, f"  {number}) {one}\n".encode())
    while True:
        os.write(2, f"Number (1-{len(names)}): ".encode())
        answer = sys.stdin.readline()
        if not answer:
            raise Usage(f"{name}: no registry was chosen")
        if answer.strip().isdigit() and 1 <= int(answer) <= len(names):
            return int(answer) - 1


def say(line: str) -> None:
    """Write a line of progress to standard error, without control characters on a terminal."""
    from rootless.cli.output import printable

    try:
        os.write(2, (printable(line, 2) + "\n").encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # nobody is watching


def say_error(error: RootlessError) -> None:
    """Tell of one failure among several; the last one ends the command."""
    say(f"Error: {error.message}")


def _lines() -> Reporter:
    from rootless.image.session import Progress, Reporter

    class Lines(Reporter):
        def say(self, line: str) -> None:
            say(line)

        def blob(self, kind: str, digest: str, size: int) -> Progress:
            say(f"Copying {kind} {digest}")
            return Progress()

    return Lines()
