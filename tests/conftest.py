"""What every test can use: the host's features, the command with a store of its own, a busybox image, a check for leaks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian13, host, images
from tests.support.engine import Engine
from tests.support.namespaces import Namespaces


def pytest_configure(config: pytest.Config) -> None:
    # A test that passes as root says nothing about an ordinary user.
    if os.geteuid() == 0 and "root" not in (config.option.markexpr or "").split():
        pytest.exit(
            "run the tests as an ordinary user: `make test` does, also when root calls it",
            returncode=4,
        )
    # A shell starts its background jobs with these ignored, and every command under test would be.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.geteuid() != 0 and (
        theirs := [item for item in items if item.get_closest_marker("root")]
    ):
        config.hook.pytest_deselected(items=theirs)
        items[:] = [item for item in items if item not in theirs]
    # A machine runs for minutes: beside all other tests, not after them.
    items.sort(key=lambda item: item.get_closest_marker("vm") is None)


def pytest_report_header() -> str:
    missing = [
        name
        for name in ("userns", "subids", "overlay", "fuse", "tun", "pasta", "delegation")
        if not host.has(name)
    ]
    return f"host: lacks {', '.join(missing)}" if missing else "host: complete"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for feature in marker.args:
            host.require(feature)


@pytest.fixture(scope="session")
def _shared_engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def rootless(_shared_engine: Engine) -> Iterator[Engine]:
    """The command, on a store that this test process keeps: images stay, containers and volumes do not.

    A test need not remove what it made; but once everything is removed, no process, mount or folder may remain, and no
    setting that the next test would run with.
    """
    yield _shared_engine
    _shared_engine.clear()
    assert _shared_engine.leaks() == []
    assert not [*_shared_engine.home.glob(".config/**/*.conf")]


@pytest.fixture
def fresh() -> Iterator[Engine]:
    """The command on an empty store, for a test that changes or damages it."""
    engine = Engine()
    yield engine
    engine.clear()
    leaks = engine.leaks()
    engine.close()
    assert leaks == []


@pytest.fixture
def net(rootless: Engine) -> Iterator[Engine]:
    """The command; the networks of a test go with it."""
    yield rootless
    rootless.clear()
    rootless("network", "prune", "-f")


_ON_DEBIAN_13 = 'VERSION_ID="13"' in Path("/etc/os-release").read_text()


@pytest.fixture(params=["installed"] if _ON_DEBIAN_13 else ["installed", "debian13"])
def version(request: pytest.FixtureRequest, net: Engine, tmp_path: Path) -> Iterator[str]:
    """Which pasta and slirp4netns: this system's, or Debian 13's."""
    if request.param == "debian13":
        folder = debian13.require()
        settings = tmp_path / "helpers.conf"
        settings.write_text(f'[engine]\nhelper_binaries_dir = ["{folder}"]\n')
        net.env["CONTAINERS_CONF_OVERRIDE"] = str(settings)
    yield str(request.param)
    net.clear()
    net.env.pop("CONTAINERS_CONF_OVERRIDE", None)


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker-archive of localhost/busybox:latest."""
    host.require("busybox")
    return images.busybox_archive(tmp_path_factory.mktemp("images") / "busybox.tar")


@pytest.fixture
def busybox(rootless: Engine, busybox_archive: Path) -> str:
    """The name of a busybox image in the store of `rootless`."""
    name = "localhost/busybox:latest"
    if rootless("image", "exists", name).code:
        rootless.ok("load", "--input", str(busybox_archive))
    return name


@pytest.fixture
def sleepy() -> Iterator[Engine]:
    """An engine whose monitors, router and relays become sleepers as soon as nothing happens."""
    engine = Engine()
    engine.env["ROOTLESS_SETTLE_S"] = "0"
    try:
        yield engine
    finally:
        engine.clear()
        engine.close()


@pytest.fixture
def space() -> Iterator[Namespaces]:
    """A user and a network namespace, to be entered by a child."""
    one = Namespaces()
    yield one
    one.close()
