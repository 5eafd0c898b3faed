"""Cases of images: pull, load, save and push of three kinds of images, listing, commit, and the disk that is used."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rootless.storage.placement import make_apart
from tests.bench import material
from tests.bench.containers import Case
from tests.bench.sides import IMAGE, Side
from tests.support import images
from tests.support.registry import DockerRegistry

PLAIN = "--tls-verify=false"
# Layers hold files of subordinate ids.
_AS_OWNER = ("unshare", "--user", "--map-root-user", "--map-auto")
_number = itertools.count()
_servers: dict[str, DockerRegistry] = {}


def _server() -> DockerRegistry:
    """The one that images are pulled from, for the whole run."""
    if "source" not in _servers:
        _servers["source"] = DockerRegistry().__enter__()
        atexit.register(_servers["source"].__exit__, None, None, None)
    return _servers["source"]


def _uploaded(name: str) -> str:
    """The name under which an image can be pulled."""
    server, image = _server(), material.Image(name)
    if name not in server.uploaded:
        for digest, path in image.blobs:
            server.put_blob(f"bench/{name}", digest, path.read_bytes())
        server.put_blob(f"bench/{name}", images.digest(image.config), image.config)
        server.put_manifest(f"bench/{name}", "1", image.manifest)
        server.uploaded.add(name)
    return f"{server.host}/bench/{name}:1"


def _settle() -> None:
    """Let nobody pay for what another has written."""
    os.sync()


@contextlib.contextmanager
def _stores(side: Side) -> Iterator[str]:
    """A folder for a case's stores, which go together with its last round."""
    with tempfile.TemporaryDirectory(prefix="stores-", dir=side.engine.home) as folder:
        yield folder
        # Also what belongs to subordinate ids.
        subprocess.run([*_AS_OWNER, "rm", "-rf", *Path(folder).iterdir()], check=True)


def _new_store(side: Side, stores: str) -> list[str]:
    """The words for a store in a place of the disk of its own.

    A file made on ext4 soon after many were removed nearby takes several times as long (storage/placement.py): each round
    would measure what the one before has left, on whichever side. So neither has that trouble here.
    """
    name = f"store{next(_number)}"
    make_apart(stores, name, 0o755)
    words = [*side.options, "--root", f"{stores}/{name}"]
    side.ok(*words, "images")  # what a first use sets up is not what is measured
    return words


def _pull(name: str) -> Callable[[Side, str], float]:
    def measure(side: Side, stores: str) -> float:
        full = _uploaded(name)
        words = _new_store(side, stores)
        _settle()
        return side.seconds(*words, "pull", "-q", PLAIN, full)

    return measure


@contextlib.contextmanager
def _pulled(side: Side, name: str) -> Iterator[str]:
    full = _uploaded(name)
    side.ok("pull", "-q", PLAIN, full)
    yield full
    side.ok("rmi", full)


def _with_pulled(name: str) -> Callable[[Side], contextlib.AbstractContextManager[str]]:
    return lambda side: _pulled(side, name)


def _pull_again(side: Side, full: str) -> float:
    return side.seconds("pull", "-q", PLAIN, full)


def _load(name: str) -> Callable[[Side, str], float]:
    def measure(side: Side, stores: str) -> float:
        full = f"localhost/{name}:loaded"
        archive = material.Image(name).archive(full)
        words = _new_store(side, stores)
        _settle()
        return side.seconds(*words, "load", "-q", "-i", str(archive))

    return measure


def _save(side: Side, full: str) -> float:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        _settle()
        return side.seconds("save", "-q", "-o", f"{folder}/image.tar", full)


def _push(side: Side, full: str) -> float:
    """To a registry that has nothing of it."""
    with DockerRegistry() as target:
        _settle()
        return side.seconds("push", "-q", PLAIN, full, f"{target.host}/bench/pushed:1")


def _disk(name: str) -> Callable[[Side, str], float]:
    """KiB that the store grows by."""

    def measure(side: Side, _: str) -> float:
        before = _used(side)
        with _pulled(side, name):
            return float(_used(side) - before)

    return measure


def _used(side: Side) -> int:
    words = [*_AS_OWNER, "du", "-sk", str(side.engine.home)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


@contextlib.contextmanager
def _two_hundred(side: Side) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "many.tar"
        names = material.many(archive, 200, images.layer([images.file("a", "a")]))
        side.ok("load", "-q", "-i", str(archive))
    yield ""
    side.ok("rmi", *names)


@contextlib.contextmanager
def _changed(side: Side) -> Iterator[str]:
    """A stopped container with a thousand files and 50 MB of changes."""
    name = f"changed{next(_number)}"
    script = "head -c 50000000 /dev/urandom > /big; mkdir /d; for i in $(seq 1000); do echo $i > /d/$i; done"
    side.ok("run", "--network", "none", "--name", name, IMAGE, "sh", "-c", script)
    yield name
    side.ok("rm", name)


def _commit(side: Side, name: str) -> float:
    image = f"localhost/committed{next(_number)}"
    _settle()
    taken = side.seconds("commit", "-q", name, image)
    side.ok("rmi", image)
    return taken


_KINDS = {"debian": "a Debian root", "files": "100,000 files", "layers": "40 layers"}
_TARGETS = {"debian": 0.5, "files": 1.0, "layers": 0.5}
_ROUNDS = {"debian": 3, "files": 3, "layers": 7}


def _cases(name: str, kind: str) -> list[Case]:
    rounds, prepare = _ROUNDS[name], _with_pulled(name)
    return [
        Case(
            f"pull {kind}",
            _pull(name),
            target=_TARGETS[name],
            prepare=_stores,
            rounds=rounds,
            slow=True,
        ),
        Case(f"load {kind}", _load(name), prepare=_stores, rounds=rounds, slow=True),
        Case(f"save {kind}", _save, prepare=prepare, rounds=rounds, slow=True),
        Case(f"push {kind}", _push, prepare=prepare, rounds=rounds, slow=True),
        Case(f"disk: {kind}", _disk(name), rounds=1, unit="KiB", slow=True),
    ]


CASES = [
    Case("images, 200 there", lambda side, _: side.seconds("images"), prepare=_two_hundred),
    Case("commit", _commit, prepare=_changed, rounds=5),
    Case("pull, unchanged", _pull_again, prepare=_with_pulled("layers")),
    *(case for name, kind in _KINDS.items() for case in _cases(name, kind)),
]
