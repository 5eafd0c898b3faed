"""rootless.data: shipped files are found in a checkout and beside an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless import data


@pytest.mark.parametrize(
    "name",
    ["config/containers.conf", "config/seccomp.json", "systemd-units/rootless-restart.service"],
)
def test_shipped_files_are_there(name: str) -> None:
    folder, _, file = name.partition("/")
    assert Path(data.data_path(folder, file)).is_file()
    assert Path(data.data_path(folder)).is_dir()


def test_an_installed_package_has_them_below_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "_HERE", str(tmp_path / "rootless"))
    assert data.data_path("config", "x") == f"{tmp_path}/config/x"
    (tmp_path / "rootless/share/config").mkdir(parents=True)
    assert data.data_path("config", "x") == f"{tmp_path}/rootless/share/config/x"
