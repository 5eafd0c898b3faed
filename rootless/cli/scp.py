"""`rootless image scp`: copy images to and from other hosts and users."""

from __future__ import annotations

from rootless.cli.table import Command, Option
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import IO

    from rootless.cli.table import Invocation
    from rootless.image.scp import Place
    from rootless.image.store import ImageStore


def main(inv: Invocation) -> int:
    import os
    import subprocess

    from rootless.container.engine import open_engine
    from rootless.image.scp import plan
    from rootless.runtime.idmap import user_name

    source, destination = plan(inv.args, os.geteuid(), user_name(os.geteuid()))
    load = ["load", "--quiet"] if inv.flag("quiet") else ["load"]
    quiet = {"stdout": subprocess.DEVNULL} if inv.flag("quiet") else {}
    if source.is_here:
        store = open_engine(inv.globals).images
        store.lookup(source.image)  # before anybody is asked for a password
        with _start(destination.command(*load), stdin=subprocess.PIPE, **quiet) as receiver:
            assert receiver.stdin is not None
            _send(store, source.image, receiver.stdin)
            _end(receiver, destination)
        return 0
    sender = _start(source.command("save", source.image), stdout=subprocess.PIPE)
    assert sender.stdout is not None
    with sender:
        if destination.is_here:
            _take(inv, sender, source)
            return 0
        with _start(destination.command(*load), stdin=sender.stdout, **quiet) as receiver:
            sender.stdout.close()
            _end(receiver, destination)
        _end(sender, source)
    return 0


def _start(words: list[str], **streams: object) -> subprocess.Popen[bytes]:
    import subprocess

    try:
        return subprocess.Popen(words, **streams)  # type: ignore[call-overload,no-any-return]
    except FileNotFoundError:
        raise RootlessError(
            f"{words[0]}: no such program", hint="install the package openssh-client"
        ) from None


def _send(store: ImageStore, text: str, stream: IO[bytes]) -> None:
    from rootless.image.save import TarSink, Wanted, save

    name = store.resolve(text)
    wanted = Wanted(store.lookup(text), [] if name is None or "@" in name else [name])
    try:
        save(store, [wanted], "docker-archive", TarSink(stream.fileno()))
        stream.close()
    except BrokenPipeError:
        pass  # its exit status and its own words say why


def _take(inv: Invocation, sender: subprocess.Popen[bytes], source: Place) -> None:
    from rootless.cli import output
    from rootless.container.engine import open_engine
    from rootless.image.archive import load

    assert sender.stdout is not None
    store = open_engine(inv.globals).images
    try:
        loaded = load(store, sender.stdout.fileno(), source.text)
    except RootlessError:
        _end(sender, source)  # a broken archive is what a failed save leaves
        raise
    _end(sender, source)
    for one in loaded:
        store.tell("loadfromarchive", source.text, one.image.id)
        for name in one.names or [f"sha256:{one.image.id}"]:
            if not inv.flag("quiet"):
                output.line(f"Loaded image: {name}")


def _end(process: subprocess.Popen[bytes], place: Place) -> None:
    status = process.wait()
    if status:
        program = "su" if place.user else "ssh"
        raise RootlessError(f"{place.text}: {program} ended with exit status {status}")


COMMAND = Command(
    "[options] IMAGE [HOST::]",
    main,
    (Option("quiet", "bool", "Print nothing but errors", short="q"),),
    args=(1, 2),
    description=(
        "Copies an image to another host or from it, through ssh; its rootless, podman or docker does the rest. "
        "As root, also between users of this machine: user@localhost::."
    ),
    examples=(
        "image scp debian build.example.org::",
        "image scp me@build.example.org:2222::local/app:1",
    ),
    complete="images",
)
