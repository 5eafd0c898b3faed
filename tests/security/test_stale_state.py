"""Records that are not of this boot, not of this user, or that name a process which is somebody else's by now."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.needs("userns", "overlay", "busybox")


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    assert process.poll() is None, "somebody else's process was ended"
    process.kill()
    process.wait()


def live_file(engine: Engine, name: str) -> Path:
    identity = engine.inspect(name)["Id"]
    (found,) = [path for path in engine.run.rglob("live.json") if identity in str(path)]
    return found


def forge(path: Path, **changes: Any) -> dict[str, Any]:
    live: dict[str, Any] = json.loads(path.read_text())
    before = dict(live)
    live.update(changes)
    path.write_text(json.dumps(live))
    return before


@pytest.mark.parametrize("boot", [True, False], ids=["this boot's", "another boot's"])
def test_case_46_52_a_record_names_a_process_that_is_another_by_now(
    rootless: Engine, busybox: str, bystander: subprocess.Popen[bytes], boot: bool
) -> None:
    rootless.ok("run", "--detach", "--name", "stale", "--network", "none", busybox, "sleep", "1000")
    path = live_file(rootless, "stale")
    start_time = json.loads(path.read_text())["init"][1]
    rootless.ok("kill", "stale")
    rootless("wait", "stale")
    # As if the machine had been cut off: what ran is still on record, by a pid that somebody else has now.
    path.parent.mkdir(parents=True, exist_ok=True)
    rotten = {"init": [bystander.pid, start_time], "monitor": [bystander.pid, start_time]}
    live = {"status": "running", **rotten}
    if path.exists():
        live = {**json.loads(path.read_text()), **rotten}
    if not boot:
        live["boot"] = "00000000-0000-0000-0000-000000000000"
    path.write_text(json.dumps(live))
    assert rootless.ok("ps", "--quiet") == ""
    assert "can only create exec sessions on running containers" in rootless.fails(
        "exec", "stale", "true"
    )
    rootless("stop", "--time", "0", "stale")
    rootless("kill", "stale")
    rootless("pause", "stale")
    rootless.ok("rm", "--force", "stale")


def test_case_52_exec_and_cp_after_a_reboot(
    fresh: Engine, busybox_archive: Path, tmp_path: Path
) -> None:
    fresh.ok("load", "--input", str(busybox_archive))
    fresh.ok("create", "--name", "old", "--network", "none", "busybox", "sleep", "1000")
    fresh.ok("start", "old")
    forge(live_file(fresh, "old"), boot="00000000-0000-0000-0000-000000000000")
    refused = fresh("exec", "old", "touch", "/x")
    assert refused.code != 0, refused
    assert "running" in refused.err
    assert fresh.ok("ps", "--all", "--format", "{{.State}}") != "running"
    fresh.kill()


@pytest.mark.needs("subids")
def test_case_39_52_a_store_of_somebody_elses(rootless: Engine, tmp_path: Path) -> None:
    """A folder that another uid owns is not taken for a store, however open it is."""
    store = tmp_path / "store"
    store.mkdir()
    script = f"mkdir {store}/x; chmod 777 {store}/x; chown 1000:1000 {store}/x"
    subprocess.run(
        ["unshare", "--user", "--map-root-user", "--map-auto", "sh", "-c", script], check=True
    )
    for args in (("ps",), ("images",), ("create", "host", "true")):
        error = rootless.fails("--root", f"{store}/x", "--runroot", f"{tmp_path}/r", *args)
        assert f"belongs to uid {os.stat(store / 'x').st_uid}" in error
    assert os.listdir(store / "x") == []
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    error = rootless.fails("--root", f"{tmp_path}/open", "--runroot", f"{tmp_path}/r", "ps")
    assert "others may write to it" in error
