"""What completes a value or an argument on the command line: one function per kind of thing, named in the tables.

A function answers for the default store. It may fail: whoever calls it offers nothing then.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.engine import Engine


def _engine() -> Engine:
    from rootless.container.engine import open_engine

    return open_engine({})


def containers(begun: str) -> list[str]:
    """Names; ids where somebody has begun one that no name begins with."""
    from rootless.container.status import all_statuses

    statuses = all_statuses(_engine())
    names = [one.name for one in statuses]
    if begun and not any(name.startswith(begun) for name in names):
        return [one.id[:12] for one in statuses]
    return names


def images(_begun: str) -> list[str]:
    found = {"host"}
    for image in _engine().images.list():
        for name in image.names:
            found.add(name)
            # A short name says the same where nothing else is called so.
            found.add(name.removeprefix("localhost/").removeprefix("docker.io/library/"))
    return sorted(found)


def volumes(_begun: str) -> list[str]:
    return _folders(_engine().paths.volumes)


def pods(_begun: str) -> list[str]:
    from rootless.state import Table

    table = Table(_engine().paths, "pod")
    return sorted(str(table.read(identity)["name"]) for identity in table.ids())


def networks(_begun: str) -> list[str]:
    names = [name.removesuffix(".json") for name in _folders(_engine().paths.networks)]
    return sorted(
        {*names, "bridge", "host", "none", "pasta", "private", "slirp4netns", "container:"}
    )


def _folders(path: str) -> list[str]:
    import os

    try:
        return sorted(name for name in os.listdir(path) if not name.startswith("."))
    except FileNotFoundError:
        return []


def signals(_begun: str) -> list[str]:
    import signal

    return sorted(name.removeprefix("SIG") for name in signal.Signals.__members__ if name.isalnum())


def capabilities(_begun: str) -> list[str]:
    from rootless.runtime.capabilities import NAMES

    return ["all", *(name.removeprefix("CAP_") for name in NAMES)]


def container_filters(_begun: str) -> list[str]:
    from rootless.container.filters import KEYS

    return [f"{key}=" for key in KEYS]


def shells(_begun: str) -> list[str]:
    from rootless.cli.completion import SHELLS

    return list(SHELLS)
