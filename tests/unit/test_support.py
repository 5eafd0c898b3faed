"""The tests' own tools: they must not lie."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support import host, images
from tests.support.engine import Engine


def test_an_unknown_feature_is_an_error() -> None:
    with pytest.raises(KeyError, match="no such feature: flying"):
        host.has("flying")


def test_a_required_feature_is_not_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROOTLESS_TEST_REQUIRE_ALL", raising=False)
    monkeypatch.delenv("ROOTLESS_TEST_WITHOUT", raising=False)
    assert host.excused("systemd")
    monkeypatch.setenv("ROOTLESS_TEST_REQUIRE_ALL", "1")
    assert not host.excused("systemd")
    monkeypatch.setenv("ROOTLESS_TEST_WITHOUT", "systemd delegation")
    assert host.excused("systemd")


def test_a_process_of_the_engine_is_found_as_a_leak() -> None:
    engine = Engine()
    process = subprocess.Popen(["sleep", "60"], env=engine.env)
    try:
        assert engine.leaks(patience_s=0) == [f"process {process.pid}: sleep 60"]
    finally:
        process.kill()
        process.wait()
    assert engine.leaks() == []
    engine.close()
    assert not engine.folder.exists()


@pytest.mark.needs("subids")
def test_closing_removes_files_of_subordinate_ids() -> None:
    engine = Engine()
    script = f"mkdir {engine.data} {engine.data}/x; chown 1000:1000 {engine.data}/x; chmod 700 {engine.data}/x"
    engine.data.parent.mkdir(parents=True)
    subprocess.run(
        ["unshare", "--user", "--map-root-user", "--map-auto", "sh", "-c", script], check=True
    )
    assert os.stat(engine.data / "x").st_uid != os.getuid()
    engine.close()
    assert not engine.folder.exists()


@pytest.mark.needs("busybox")
def test_archives_are_the_same_each_time(tmp_path: Path) -> None:
    one = images.busybox_archive(tmp_path / "1.tar")
    two = images.busybox_archive(tmp_path / "2.tar")
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as archive:
        member = archive.extractfile("manifest.json")
        assert member
        (manifest,) = json.load(member)
        data = archive.extractfile(manifest["Layers"][0])
        assert data
        names = tarfile.open(fileobj=io.BytesIO(data.read())).getnames()
    assert {"bin/sh", "bin/busybox", "etc/passwd", "tmp"} <= set(names)


@pytest.mark.peer
@pytest.mark.needs("busybox", "skopeo")
def test_skopeo_reads_our_archives(tmp_path: Path) -> None:
    docker = images.busybox_archive(tmp_path / "docker.tar")
    oci = images.oci_archive(tmp_path / "oci.tar", [images.busybox_layer()], "busybox", Cmd=["sh"])
    for name in (
        f"docker-archive:{docker}",
        f"oci-archive:{oci}",
        f"oci:{oci.with_suffix('.layout')}",
    ):
        done = subprocess.run(
            ["skopeo", "inspect", "--config", name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["config"]["Cmd"] == ["sh"]
