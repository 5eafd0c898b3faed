"""`rootless stats` on a host with cgroups and on one without: the same columns, from what there is."""

from __future__ import annotations

import json

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.needs("userns", "subids")

HEADINGS = "ID NAME CPU % MEM USAGE / LIMIT MEM % NET IO BLOCK IO PIDS CPU TIME AVG CPU %"


@pytest.fixture
def busy(rootless: Engine) -> str:
    rootless.ok(
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "busy",
        "host",
        "sh",
        "-c",
        "while :; do :; done",
    )
    return "busy"


def test_a_table(rootless: Engine, busy: str) -> None:
    heading, row = rootless.ok("stats", "--no-stream").splitlines()
    assert " ".join(heading.split()) == HEADINGS
    assert row.split()[1] == busy
    assert rootless.ok("stats", "--no-stream", "--no-trunc", busy).splitlines()[1].split()[0] == (
        rootless.ok("inspect", "--format", "{{.Id}}", busy).strip()
    )


def test_json_has_podmans_keys(rootless: Engine, busy: str) -> None:
    [row] = json.loads(rootless.ok("stats", "--no-stream", "--format", "json", busy))
    assert list(row) == [
        "id", "name", "cpu_time", "cpu_percent", "avg_cpu", "mem_usage", "mem_percent", "net_io", "block_io", "pids"
    ]  # fmt: skip
    assert row["pids"] == "1"
    assert row["net_io"] == "-- / --"
    assert not row["mem_usage"].startswith("0B")


def test_a_template(rootless: Engine, busy: str) -> None:
    name, percent, pids = rootless.ok(
        "stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.PIDS}}"
    ).split()
    assert (name, percent[-1], pids) == (busy, "%", "1")


def test_what_does_not_run_uses_nothing(rootless: Engine) -> None:
    rootless.ok("create", "--name", "idle", "host", "true")
    assert rootless.ok("stats", "--no-stream").splitlines()[1:] == []
    row = rootless.ok("stats", "--no-stream", "--all").splitlines()[1]
    assert " ".join(row.split()[1:]) == "idle 0.00% -- / -- 0.00% -- / -- -- / -- -- 0s 0.00%"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-i", "0"), "invalid interval, must be a positive number greater zero"),
        (("-a", "x"), "--all, --latest and containers cannot be used together"),
        (("nosuch",), 'no container with name or ID "nosuch" found: no such container'),
    ],
)
def test_mistakes(rootless: Engine, words: tuple[str, ...], message: str) -> None:
    done = rootless("stats", "--no-stream", *words)
    assert done.code == 125
    assert message in done.err
