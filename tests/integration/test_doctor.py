"""`rootless doctor` on this host, and on one that is made worse."""

from __future__ import annotations

from tests.support.engine import Engine


def test_here(rootless: Engine) -> None:
    """Where tests of containers run, containers can be run."""
    result = rootless("doctor", "--offline")
    assert (result.code, result.err) == (0, "")
    assert result.lines[-1] == "Containers can be run here."
    assert any(line.startswith("ok    user namespaces: ") for line in result.lines)
    assert any(line.startswith("ok    seccomp: ") for line in result.lines)


def test_json(rootless: Engine) -> None:
    found = rootless("doctor", "--offline", "--format", "json").json
    assert found["works"] is True
    for one in found["findings"]:
        assert one["state"] in ("ok", "warning") and one["subject"] and one["text"]
        assert one["state"] == "ok" or one["remedy"] or "batch" in one["text"], one


def test_no_place_to_write(rootless: Engine) -> None:
    result = rootless("--root", "/proc/nowhere", "doctor", "--offline")
    assert result.code == 1 and "FAIL" in result.out
    assert result.lines[-1].startswith("Containers cannot be run here")


def test_no_runtime_folder(rootless: Engine) -> None:
    result = rootless("doctor", "--offline", env={"XDG_RUNTIME_DIR": "/nowhere"})
    assert "warn  $XDG_RUNTIME_DIR: /nowhere is missing" in result.out
