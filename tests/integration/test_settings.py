"""Settings reach the command: where the store lies, and an error that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import Engine


def settings(engine: Engine, name: str, text: str) -> Path:
    path = engine.home / ".config" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.needs("userns", "subids", "overlay")
def test_graphroot_moves_the_store(fresh: Engine) -> None:
    place = fresh.folder / "disk/store"
    settings(fresh, "rootless/storage.conf", f'[storage]\ngraphroot = "{place}"\n')
    assert fresh.ok("run", "--network", "none", "--name", "here", "host", "echo", "x") == "x"
    assert (place / "containers").is_dir()
    assert not fresh.data.exists()
    assert fresh.ok("ps", "--all", "--format", "{{.Names}}") == "here"
    # --root on the command line is stronger, and another store knows nothing of the container.
    assert fresh.ok("--root", f"{fresh.folder}/other", "ps", "--all", "--quiet") == ""
    settings(fresh, "rootless/storage.conf", "")
    assert fresh.ok("ps", "--all", "--quiet") == ""
    settings(fresh, "rootless/storage.conf", f'[storage]\ngraphroot = "{place}"\n')
    assert fresh.ok("rm", "here") == "here"


@pytest.mark.needs("userns", "subids", "overlay")
def test_runroot_moves_what_runs(fresh: Engine) -> None:
    place = fresh.folder / "volatile"
    settings(fresh, "rootless/storage.conf", f'[storage]\nrunroot = "{place}"\n')
    fresh.ok("run", "-d", "--network", "none", "--name", "here", "host", "sleep", "100")
    assert any((place / "containers").iterdir())
    assert not (fresh.run / "containers").exists()
    assert fresh.ok("exec", "here", "echo", "x") == "x"
    assert fresh.ok("rm", "-f", "-t", "0", "here") == "here"


def test_podmans_graphroot_gives_the_disk_but_stays_podmans(fresh: Engine) -> None:
    place = fresh.folder / "disk"
    settings(
        fresh, "containers/storage.conf", f'[storage]\ndriver = "overlay"\ngraphroot = "{place}"\n'
    )
    fresh.ok("volume", "create", "v")
    assert (place / "rootless/volumes/v").is_dir()
    assert [path.name for path in place.iterdir()] == ["rootless"]
    fresh.ok("volume", "rm", "v")


@pytest.mark.needs("userns", "overlay")
def test_a_wrong_setting_is_one_line_that_names_the_file(fresh: Engine) -> None:
    path = settings(fresh, "containers/containers.conf", "[engine]\nstop_timeout = 'soon'\n")
    assert (
        fresh.fails("create", "host", "true")
        == f"Error: {path}: [engine] stop_timeout: 'soon' is not a whole number\n"
    )


@pytest.mark.needs("userns", "overlay")
def test_the_environment_names_a_file(fresh: Engine) -> None:
    error = fresh.fails("create", "host", "true", env={"CONTAINERS_CONF": "/nonexistent"})
    assert error.startswith(
        "Error: /nonexistent: cannot read the configuration file that the environment names"
    )
