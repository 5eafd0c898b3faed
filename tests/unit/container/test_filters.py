"""--filter: keys, values and combinations, on statuses made for the purpose."""

from __future__ import annotations

from typing import Any, cast

import pytest

from rootless.container.filters import PRUNE_KEYS, match_labels, matcher
from rootless.container.status import Status
from rootless.errors import Usage


def status(name: str, word: str = "exited", **more: Any) -> Status:
    record: dict[str, Any] = {
        "id": (name * 64)[:64].encode().hex()[:64],
        "name": name,
        "created": more.pop("created", 1),
        "labels": more.pop("labels", {}),
        "options": more.pop("options", {}),
        "mounts": more.pop("mounts", []),
        "command": more.pop("command", []),
        **{key: more.pop(key) for key in ("pod", "image") if key in more},
    }
    return Status(str(record["id"]), record, more, None, word, False)


ALL = [
    status("web", labels={"a": "1", "b": ""}, exit_code=3, command=["nginx"]),
    status("db", "running", labels={"a": "2"}, options={"restart": "always"}, created=2),
    status(
        "job",
        "created",
        mounts=[{"type": "volume", "source": "vol", "destination": "/data"}],
        options={"network": "none"},
        created=3,
    ),
]


class Engine:
    """The filters here ask no store."""


def names(*words: str, keys: tuple[str, ...] | None = None) -> list[str]:
    keep = matcher(cast("Any", Engine()), words, keys)
    return [one.name for one in ALL if keep(one)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], "web db job"),
        (["name=w"], "web"),
        (["name=/web"], "web"),
        (["name=^(web|db)$"], "web db"),
        (["name=web", "name=db"], "web db"),
        (["label=a"], "web db"),
        (["label=a=2"], "db"),
        (["label=b="], "web"),
        (["label=a", "label=b"], "web"),
        (["label!=a"], "job"),
        (["label!=a=2"], "web job"),
        (["label!=a=1", "label!=a=2"], "job"),
        (["status=exited"], "web"),
        (["status=stopped"], "web"),
        (["exited=3"], "web"),
        (["exited=0"], ""),
        (["volume=vol"], "job"),
        (["volume=vol:/data"], "job"),
        (["volume=vol:/other"], ""),
        (["restart-policy=always"], "db"),
        (["restart-policy=no"], "web job"),
        (["should-start-on-boot=true"], "db"),
        (["should-start-on-boot=false"], "web job"),
        (["network=none"], "job"),
        (["command=ngin"], "web"),
        (["until=5"], "web db job"),
        (["name=e", "status=exited"], "web"),
        (["id=776562"], "web"),
        (["id=^776562"], "web"),
    ],
)
def test_filters(words: list[str], found: str) -> None:
    assert names(*words) == found.split()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("foo", 'invalid filter "foo"'),
        ("foo=x", "foo is an invalid filter"),
        ("status=foo", "unknown container state: foo: invalid argument"),
        ("restart-policy=foo", "foo invalid restart policy"),
        ("until=foo", 'failed to parse value as time or duration: "foo"'),
        ("should-start-on-boot=foo", 'strconv.ParseBool: parsing "foo": invalid syntax'),
    ],
)
def test_mistakes(word: str, message: str) -> None:
    with pytest.raises(Usage) as caught:
        names(word)
    assert str(caught.value) == message


def test_prune_knows_fewer_keys() -> None:
    assert names("label=a", keys=PRUNE_KEYS) == ["web", "db"]
    with pytest.raises(Usage, match="name is an invalid filter"):
        names("name=web", keys=PRUNE_KEYS)


def test_labels() -> None:
    assert match_labels({"a": "x=y"}, ["a=x=y"])
    assert not match_labels({}, ["a"])
    assert match_labels({}, [])
