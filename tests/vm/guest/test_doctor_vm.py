"""`rootless doctor` where there is something to see: delegation, linger, a quota, and users without a session."""

from __future__ import annotations

import json
from pathlib import Path

from tests.vm.guest.conftest import Command
from tests.vm.guest.quota import store_with_quota
from tests.vm.guest.test_cgroups_vm import as_guest


def findings(text: str) -> dict[str, list[tuple[str, str, str]]]:
    found: dict[str, list[tuple[str, str, str]]] = {}
    for one in json.loads(text)["findings"]:
        found.setdefault(one["subject"], []).append((one["state"], one["text"], one["remedy"]))
    return found


def test_every_line_of_a_host_that_has_all(
    rootless: Command, sudo: Command, tmp_path: Path
) -> None:
    """On a disk with a quota of 1 GiB, which is little."""
    with store_with_quota(sudo, tmp_path, 1 << 20) as store:
        done = rootless("--root", str(store), "doctor", "--format", "json")
    found = findings(done.stdout)
    assert done.returncode == 0, done
    for subject in (
        "kernel", "user namespaces", "subordinate uids", "subordinate gids", "newuidmap", "newgidmap", "id maps", "isolation",
        "overlay", "/dev/fuse", "fuse-overlayfs", "/dev/net/tun", "pasta", "slirp4netns", "limits", "$XDG_RUNTIME_DIR", "D-Bus",
        "linger", "seccomp", "settings",
    ):  # fmt: skip
        assert found[subject][0][0] == "ok", found[subject]
    assert "pasta 0" in found["pasta"][0][1]
    assert "slirp4netns version 1" in found["slirp4netns"][0][1]
    delegated, missing = found["cgroups"]
    assert delegated[1] == "version 2; delegated: cpu, memory, pids"
    assert missing[1].startswith("not delegated: cpuset, io") and "delegate.conf" in missing[2]
    [(state, text, remedy)] = found["quota"]
    assert state == "warning" and "of 1.0 GiB" in text and "of 500000 files" in text and remedy
    assert any("nosuid" in text for _, text, _ in found["store"])
    assert found["registry"][0][0] == "warning" and "name service" in found["registry"][0][2]


def test_a_user_without_a_session(sudo: Command) -> None:
    sudo.ok("systemctl", "stop", "user@1001.service")
    text = sudo.ok(*as_guest("rootless", "doctor", "--offline", "--format", "json"))
    found = findings(text)
    for subject in ("$XDG_RUNTIME_DIR", "D-Bus", "linger"):
        assert "loginctl enable-linger" in found[subject][0][2], found[subject]
    assert found["linger"][0][1].startswith("off: guest's containers end")
    [(_, text, remedy)] = found["cgroups"]
    assert text.startswith("no systemd manager of uid 1001 runs") and "limits are refused" in text
    assert "loginctl enable-linger" in remedy
