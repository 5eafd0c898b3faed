"""newuidmap that is missing, has lost its set-uid bit, or refuses: one line, and what to ask the administrator for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import SetupError
from rootless.linux import idmap
from rootless.linux.idmap import IdMap, write_id_maps

MAP = IdMap([(0, 1000, 1), (1, 100000, 65536)], [(0, 1000, 1), (1, 100000, 65536)])


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idmap, "find_trusted", lambda name: None)
    with pytest.raises(SetupError) as caught:
        write_id_maps(os.getpid(), MAP)
    assert caught.value.message == "newuidmap is not installed"
    assert "package uidmap" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("newuidmap: write to uid_map failed: Operation not permitted", "has lost its set-uid bit"),
        ("", "has lost its set-uid bit"),
    ],
)
def test_without_its_set_uid_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, hint: str
) -> None:
    program = tmp_path / "newuidmap"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(idmap, "find_trusted", lambda name: str(program))
    with pytest.raises(SetupError) as caught:
        write_id_maps(os.getpid(), MAP)
    assert caught.value.message == f"newuidmap failed: {said or 'exit status 1'}"
    assert hint in caught.value.hint


def test_ranges_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "newuidmap"
    program.write_text(
        "#!/bin/sh\necho 'newuidmap: uid range [1-65537) -> [100000-165536) not allowed' >&2\nexit 1\n"
    )
    program.chmod(0o4755)
    monkeypatch.setattr(idmap, "find_trusted", lambda name: str(program))
    with pytest.raises(SetupError) as caught:
        write_id_maps(os.getpid(), MAP)
    assert "/etc/subuid" in caught.value.hint
