"""Where things lie: the run-time folder is found the same way by every kind of session, and never trusted by its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless import paths
from rootless.errors import RootlessError


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two folders in the place of /dev/shm and /tmp, and no folder from a log-in."""
    folders = [tmp_path / "shm", tmp_path / "tmp"]
    for folder in folders:
        folder.mkdir(mode=0o1777)
    monkeypatch.setattr(paths, "_SHARED", tuple(str(folder) for folder in folders))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    real = paths._is_own_private
    monkeypatch.setattr(
        paths, "_is_own_private", lambda path: not path.startswith("/run/user") and real(path)
    )
    return folders


def name() -> str:
    return f"rootless-{os.getuid()}"


def test_runtime_dir_of_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    assert paths.runtime_home() == str(folder)


def test_a_private_folder_is_made_and_found_again(shared: list[Path]) -> None:
    first = paths.runtime_home()
    assert first == str(shared[0] / name())
    assert os.stat(first).st_mode & 0o777 == 0o700
    assert paths.runtime_home() == first


@pytest.mark.parametrize("kind", ["link", "open", "file"])
def test_case_47_a_folder_made_by_somebody_else(
    shared: list[Path], tmp_path: Path, kind: str
) -> None:
    """A link, an open folder or a file in its place is not used; the next place is, and where none is left it is refused."""
    for number, folder in enumerate(shared):
        place = folder / name()
        if kind == "link":
            (tmp_path / "mine").mkdir(mode=0o700, exist_ok=True)
            place.symlink_to(tmp_path / "mine")
        elif kind == "open":
            place.mkdir()
            place.chmod(0o777)
        else:
            place.write_text("")
        if number == 0:
            assert paths.runtime_home() == str(shared[1] / name())
            (shared[1] / name()).rmdir()
    with pytest.raises(RootlessError, match="no private run-time folder"):
        paths.runtime_home()


def test_a_wrong_runtime_dir_is_not_believed(
    shared: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir(mode=0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(wrong))
    assert paths.runtime_home() == str(shared[0] / name())
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert paths.runtime_home() == str(shared[0] / name())


def test_another_root_has_live_facts_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    assert paths.find("/a").run != paths.find("/b").run
    assert paths.find("/a").run == paths.find("/a").run
    assert paths.find("/a", "/c").run == "/c"
