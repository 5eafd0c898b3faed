"""`system df`, `prune`, `reset`, `migrate`, `renumber`, `check`."""

from __future__ import annotations

import json

from tests.support.engine import Engine


def summary(rootless: Engine) -> dict[str, dict[str, object]]:
    return {row["Type"]: row for row in json.loads(rootless.ok("system", "df", "--format", "json"))}


def test_df(rootless: Engine) -> None:
    rootless.ok("volume", "create", "dfunused")
    rootless.ok(
        "run", "--name", "dfone", "--network", "none", "-v", "dfused:/x", "host",
        "sh", "-c", "head -c 5000 /dev/zero > /x/file; head -c 70000 /dev/zero > /root/file",
    )  # fmt: skip
    rows = summary(rootless)
    assert list(rows) == ["Images", "Containers", "Local Volumes"]
    assert rows["Containers"]["Total"] == 1 and rows["Containers"]["Active"] == 0
    assert rows["Containers"]["RawSize"] == rows["Containers"]["RawReclaimable"] == 70000
    assert rows["Local Volumes"]["Total"] == 2 and rows["Local Volumes"]["Active"] == 1
    assert rows["Local Volumes"]["RawSize"] == 5000 and rows["Local Volumes"]["RawReclaimable"] == 0
    assert rows["Images"]["Active"] == 1
    lines = rootless.ok("system", "df").splitlines()
    assert lines[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert lines[2].split() == ["Containers", "1", "0", "70kB", "70kB", "(100%)"]
    details = rootless.ok("system", "df", "-v")
    assert "dfone" in details and "dfunused" in details
    assert rootless.fails("system", "df", "-v", "--format", "x") == (
        "Error: cannot combine --format and --verbose flags\n"
    )


def test_prune_asks(rootless: Engine) -> None:
    rootless("run", "--name", "spone", "--network", "none", "host", "true")
    asked = rootless("system", "prune", input="n\n")
    assert asked.code == 0 and asked.out.startswith(
        "WARNING! This command removes:\n\t- all stopped containers\n"
    )
    assert rootless.ok("ps", "-aq") != ""


def test_prune(rootless: Engine) -> None:
    rootless.ok("image", "prune", "--force")  # what other tests have left without a name
    rootless.ok("create", "--name", "spa", "--network", "none", "-l", "keep=1", "host", "true")
    rootless.ok(
        "run",
        "--name",
        "spb",
        "--network",
        "none",
        "host",
        "sh",
        "-c",
        "head -c 3000 /dev/zero > /root/f",
    )
    rootless.ok("run", "-d", "--name", "spc", "--network", "none", "host", "sleep", "4747")
    rootless.ok("volume", "create", "spvolume")
    identity = rootless.ok("ps", "-aq", "--no-trunc", "--filter", "name=spb")
    out = rootless.ok("system", "prune", "--force", "--filter", "label!=keep")
    assert out.splitlines() == ["Deleted Containers", identity, "Total reclaimed space: 3kB"]
    assert rootless.ok("ps", "-a", "--format", "{{.Names}}").split() == ["spa", "spc"]
    out = rootless.ok("system", "prune", "--force", "--volumes")
    assert "Deleted Volumes\nspvolume\n" in out
    assert rootless.ok("ps", "-a", "--format", "{{.Names}}") == "spc"
    assert rootless.fails("system", "prune", "-f", "--filter", "foo=x") == (
        "Error: foo is an invalid filter\n"
    )


def test_migrate_and_renumber_leave_containers_alone(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "smone", "--network", "none", "host", "sleep", "4748")
    assert rootless.ok("system", "migrate") == ""
    assert rootless.ok("system", "renumber") == ""
    assert rootless.ok("ps", "--format", "{{.Names}}") == "smone"
    error = rootless.fails("system", "migrate", "--new-runtime", "crun")
    assert error.startswith("Error: --new-runtime is not supported: ")


def test_check_finds_nothing_in_a_sound_store(rootless: Engine) -> None:
    rootless("run", "--rm", "--network", "none", "host", "true")
    assert rootless.ok("system", "check") == ""


def test_reset_removes_everything_of_ours_and_nothing_else() -> None:
    engine = Engine()
    try:
        engine.ok(
            "run",
            "-d",
            "--name",
            "srone",
            "--network",
            "none",
            "-v",
            "srv:/x",
            "host",
            "sleep",
            "4749",
        )
        other = engine.data / "somebody-elses-file"
        other.write_text("kept")
        asked = engine("system", "reset", input="n\n")
        assert f'the data folder: "{engine.data}"' in asked.out and engine.ok("ps", "-q")
        assert engine.ok("system", "reset", "--force") == ""
        assert [path.name for path in engine.data.iterdir()] == [other.name]
        assert not engine.run.exists() or not any((engine.run / "containers").glob("*"))
        assert engine.processes() == {}
        other.unlink()
        engine.ok("run", "--rm", "--network", "none", "host", "true")
        engine.ok("system", "reset", "--force")
        assert not engine.data.exists()
    finally:
        engine.close()
