"""rootless-oci: what its parts make of words, without a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import Conflict, NotFound, RootlessError, SetupError, Usage
from rootless.ocicli import events, inside, records, update
from rootless.ocicli.bundle import add_user_namespace
from rootless.ocicli.commandline import Given
from rootless.ocicli.list import table
from rootless.ocicli.main import log_target
from rootless.runtime.idmapped import parse


def given(**options: str) -> Given:
    made = Given()
    made.options = {name.replace("_", "-"): value for name, value in options.items()}
    return made


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "ä", "x\n"])
def test_ids_that_are_none(name: str) -> None:
    with pytest.raises(Usage):
        records.check_id(name)


def test_a_record_that_another_call_removed_is_not_made_again_by_its_lock(tmp_path: Path) -> None:
    record = records.Record(str(tmp_path), "c")
    record.take()
    with record.lock():
        record.remove()
    with pytest.raises(NotFound, match="`c` does not exist"), record.lock():
        pass
    assert not (tmp_path / "c").exists()


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    records.Record(str(tmp_path / "new"), "one").take()
    with pytest.raises(Conflict, match="already exists"):
        records.Record(str(tmp_path / "new"), "one").take()


def test_a_container_in_the_making_is_seen_as_such(tmp_path: Path) -> None:
    record = records.Record(str(tmp_path), "c")
    record.take()
    with pytest.raises(NotFound):
        records.Record(str(tmp_path), "c").load()
    record.set_init(os.getpid())
    record.write_creating()
    assert records.Record(str(tmp_path), "c").load().status() == records.CREATING
    record.set_created()
    assert records.Record(str(tmp_path), "c").load().status() == records.RUNNING


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/state.json").write_text("{")
    with pytest.raises(RootlessError, match=r"one/state\.json: damaged"):
        records.Record(str(tmp_path), "one").load()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5s", 5), ("100ms", 0.1), ("2m", 120), ("1h", 3600), ("1.5s", 1.5)],
)
def test_intervals(text: str, expected: float) -> None:
    assert events.seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "0s", "5", "s", "-1s"])
def test_intervals_that_are_none(text: str) -> None:
    with pytest.raises(Usage):
        events.seconds(text)


def test_limits_from_options() -> None:
    made = update.from_options(
        given(memory="64m", memory_swap="-1", cpu_share="512", cpuset_cpus="0-1", pids_limit="20")
    )
    assert made == {
        "memory": {"limit": 64 << 20, "swap": -1},
        "cpu": {"shares": 512, "cpus": "0-1"},
        "pids": {"limit": 20},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("file", "")),
        ("/a/b", ("file", "/a/b")),
        ("file:/a/b", ("file", "/a/b")),
        ("/a:b", ("file", "/a:b")),
        ("syslog:me", ("syslog", "me")),
        ("journald:me", ("journald", "me")),
        ("nonesuch:/x", ("", "")),
    ],
)
def test_where_a_log_goes(text: str, expected: tuple[str, str]) -> None:
    assert log_target(text) == expected


def test_a_table_is_aligned() -> None:
    text = table([("id", "pid"), ("a-long-name-of-a-container", 5)])
    assert text.splitlines() == [
        "ID                           PID",
        "a-long-name-of-a-container   5",
    ]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (["HOME=/x"], ["HOME=/x"]),
        (["HOME=", "A=1"], ["A=1", "HOME=/"]),
        ([], ["HOME=/"]),
    ],
)
def test_home(environment: list[str], expected: list[str]) -> None:
    process = {"env": environment, "user": {"uid": 3999999999}}
    inside.complete_process(process)
    assert process["env"] == expected


def test_the_form_of_idmap() -> None:
    assert parse("uids=0-5-10#10-20-5;gids=@0-1-2") == ([(0, 5, 10), (10, 20, 5)], [(0, 1, 2)])
    for text in ("uids=0-5", "nonesuch=0-1-2", "uids=a-b-c"):
        with pytest.raises(SetupError, match="idmap="):
            parse(text)


def test_a_user_namespace_is_added_for_an_unprivileged_caller() -> None:
    linux: dict[str, object] = {"namespaces": [{"type": "pid"}]}
    add_user_namespace(linux, {})
    assert {"type": "user"} in linux["namespaces"]  # type: ignore[operator]
    assert linux["uidMappings"] and linux["gidMappings"]
    joined = {"namespaces": [{"type": "user", "path": "/proc/1/ns/user"}]}
    add_user_namespace(joined, {})
    assert set(joined) == {"namespaces"}
