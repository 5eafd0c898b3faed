"""Podman's arithmetic with capabilities; the messages are its own."""

from __future__ import annotations

import pytest

from rootless.errors import RootlessError
from rootless.runtime import capabilities
from rootless.runtime.capabilities import DEFAULT, NAMES, Sets, mask, merge, names_of, process_sets


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "known", lambda: list(NAMES))


def test_names_and_numbers_agree() -> None:
    assert NAMES[0] == "CAP_CHOWN"
    assert NAMES[21] == "CAP_SYS_ADMIN"
    assert NAMES[40] == "CAP_CHECKPOINT_RESTORE"
    assert len(NAMES) == len(set(NAMES)) == 41
    assert names_of(mask(DEFAULT)) == sorted(DEFAULT, key=NAMES.index)
    assert names_of(1 << 21 | 1 << 50) == ["CAP_SYS_ADMIN", "CAP_50"]
    assert mask(["CAP_CHOWN", "CAP_NO_SUCH"]) == 1


@pytest.mark.parametrize(
    ("adds", "drops", "expected"),
    [
        ([], [], ["CAP_KILL", "CAP_CHOWN"]),
        (["net_raw"], [], ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]),
        (["CAP_NET_RAW", "kill"], ["Chown"], ["CAP_KILL", "CAP_NET_RAW"]),
        ([], ["all"], []),
        (["net_raw", "NET_RAW"], ["ALL"], ["CAP_NET_RAW"]),
        (["all"], [], sorted(NAMES)),
        (["ALL", "net_raw"], ["sys_admin", "chown"], sorted(set(NAMES) - {"CAP_SYS_ADMIN", "CAP_CHOWN"})),
    ],
)  # fmt: skip
def test_merge(adds: list[str], drops: list[str], expected: list[str]) -> None:
    assert merge(["CAP_KILL", "CAP_CHOWN"], adds, drops) == expected


@pytest.mark.parametrize(
    ("adds", "drops", "message"),
    [
        (["foo"], [], '"CAP_FOO": unknown capability'),
        ([], ["foo"], '"CAP_FOO": unknown capability'),
        (["all"], ["all"], "adding all caps and removing all caps not allowed"),
        (["net_raw"], ["CAP_NET_RAW"], 'capability "CAP_NET_RAW" cannot be dropped and added'),
    ],
)
def test_merge_errors(adds: list[str], drops: list[str], message: str) -> None:
    with pytest.raises(RootlessError) as caught:
        merge(DEFAULT, adds, drops)
    assert str(caught.value) == message


def test_root_has_its_bounding_set_and_nothing_inheritable() -> None:
    sets = process_sets(DEFAULT, ["net_raw"], ["chown"])
    assert sets["bounding"] == sets["effective"] == sets["permitted"]
    assert "CAP_NET_RAW" in sets["bounding"]
    assert "CAP_CHOWN" not in sets["bounding"]
    assert sets["inheritable"] == sets["ambient"] == []
    assert process_sets(DEFAULT, [], [], privileged=True)["bounding"] == list(NAMES)


@pytest.mark.parametrize("privileged", [True, False])
def test_case_20_another_user_has_what_was_asked_for(privileged: bool) -> None:
    sets = process_sets(DEFAULT, [], [], privileged=privileged, is_root=False)
    assert sets["effective"] == sets["permitted"] == sets["inheritable"] == sets["ambient"] == []
    assert sets["bounding"]
    sets = process_sets(DEFAULT, ["net_raw"], [], is_root=False)
    assert sets["effective"] == sets["permitted"] == sets["ambient"] == ["CAP_NET_RAW"]
    assert sets["inheritable"] == ["CAP_NET_RAW"]  # what the ambient one needs


def test_a_kernel_without_a_capability_does_not_give_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "known", lambda: list(NAMES[:38]))
    assert "CAP_BPF" not in process_sets(DEFAULT, ["bpf"], [])["bounding"]


def test_sets_from_a_document() -> None:
    sets = Sets({"bounding": ["CAP_CHOWN", "CAP_FOO"], "effective": ["CAP_CHOWN"], "ambient": None})
    assert (sets.bounding, sets.effective, sets.permitted, sets.ambient) == (1, 1, 0, 0)
    assert sets.unknown == ["CAP_FOO"]
    assert Sets(None).bounding == 0
