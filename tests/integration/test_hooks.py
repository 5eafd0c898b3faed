"""OCI hooks: each moment in its order, the state on standard input, failures, and images that steer none (case 36)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.needs("userns", "overlay")

MOMENTS = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")


def write_hook(folder: Path, name: str, script: str, stages: list[str], **when: Any) -> None:
    folder.mkdir(exist_ok=True)
    hook = {
        "version": "1.0.0",
        "hook": {"path": "/bin/sh", "args": ["sh", "-c", script, name]},
        "when": when or {"always": True},
        "stages": stages,
    }
    (folder / f"{name}.json").write_text(json.dumps(hook))


def run(engine: Engine, folder: Path, *words: str) -> Any:
    return engine("--hooks-dir", str(folder), "run", "--rm", "--network", "none", *words)


def test_each_moment_in_order_with_its_state(rootless: Engine, tmp_path: Path) -> None:
    folder, log = tmp_path / "hooks", tmp_path / "log"
    for moment in MOMENTS:
        write_hook(folder, moment, f"echo $0 $(cat) >> {log}", [moment])
    assert run(rootless, folder, "--annotation", "a=b", "host", "sh", "-c", "exit 3").code == 3
    lines = [line.partition(" ") for line in log.read_text().splitlines()]
    assert [name for name, _, _ in lines] == list(MOMENTS)
    states = [json.loads(text) for _, _, text in lines]
    assert [state["status"] for state in states] == [
        "created",
        "created",
        "creating",
        "running",
        "stopped",
    ]
    assert len({state["id"] for state in states}) == 1
    assert states[0]["annotations"]["a"] == "b"
    # The container's pid as the host sees it, also for the hook that runs in its namespaces.
    assert len({state.get("pid") for state in states[:4]}) == 1 and "pid" not in states[4]


def test_start_container_hook_runs_inside(rootless: Engine, tmp_path: Path) -> None:
    write_hook(tmp_path / "hooks", "inside", "echo made > /made", ["startContainer"])
    assert run(rootless, tmp_path / "hooks", "host", "cat", "/made").out == "made\n"


@pytest.mark.parametrize(
    "moment", ["prestart", "createRuntime", "createContainer", "startContainer"]
)
def test_a_failing_hook_fails_the_start(rootless: Engine, tmp_path: Path, moment: str) -> None:
    write_hook(tmp_path / "hooks", "bad", "echo no luck >&2; exit 7", [moment])
    result = run(rootless, tmp_path / "hooks", "--name", "unlucky", "host", "true")
    assert result.code == 125
    assert f"error running hook: {moment} #0: /bin/sh: exit status 7: no luck" in result.err
    assert rootless.ok("ps", "--all", "--quiet") == ""


def test_a_failing_poststop_only_warns(rootless: Engine, tmp_path: Path) -> None:
    write_hook(tmp_path / "hooks", "late", "exit 1", ["poststop"])
    assert run(rootless, tmp_path / "hooks", "host", "true").code == 0


def test_case_36_annotations_of_the_command_line_match_and_labels_do_not(
    rootless: Engine, tmp_path: Path
) -> None:
    folder, log = tmp_path / "hooks", tmp_path / "log"
    write_hook(folder, "wanted", f"echo $0 >> {log}", ["prestart"], annotations={"^use$": "^yes$"})
    run(rootless, folder, "--label", "use=yes", "host", "true")
    assert not log.exists()
    run(rootless, folder, "--annotation", "use=yes", "host", "true")
    assert log.read_text() == "wanted\n"


def test_a_damaged_hook_file_is_named(rootless: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "hooks"
    folder.mkdir()
    (folder / "x.json").write_text('{"version": "9"}')
    result = run(rootless, folder, "host", "true")
    assert result.code == 125 and "x.json: version is not 1.0.0" in result.err
