"""Image configs: every type that later code relies on is checked; times as the specs write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rootless.oci.document import BadDocument
from rootless.oci.image import emit, parse_config, parse_time, rfc3339

GOOD: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["A=1"], "Cmd": ["sh"], "Labels": {"a": "b"}, "Volumes": {"/v": {}}},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
    "history": [{"created_by": "x", "unknown": 1}],
    "unknown": {"kept": True},
}


def test_what_is_unknown_is_kept() -> None:
    assert parse_config(emit(GOOD), "x") == GOOD


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("architecture", 7),
        ("os", ["linux"]),
        ("created", 1),
        ("config", []),
        ("config.Env", "A=1"),
        ("config.Env", [1]),
        ("config.Cmd", {"a": 1}),
        ("config.Labels", {"a": 1}),
        ("config.Volumes", ["/v"]),
        ("config.ExposedPorts", "80"),
        ("config.User", 0),
        ("config.Healthcheck", "x"),
        ("rootfs", None),
        ("rootfs.type", "zip"),
        ("rootfs.diff_ids", "sha256:x"),
        ("rootfs.diff_ids", ["sha256:../../x"]),
        ("rootfs.diff_ids", [7]),
        ("history", {}),
        ("history", ["x"]),
    ],
)
def test_wrong_types_are_named(path: str, value: object) -> None:
    document = json.loads(emit(GOOD))
    part = document
    *parents, last = path.split(".")
    for parent in parents:
        part = part[parent]
    part[last] = value
    with pytest.raises(BadDocument, match=path.rsplit(".", maxsplit=1)[-1]):
        parse_config(emit(document), "x")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2024-02-29T12:30:15Z", 1709209815.0),
        ("2026-11-21T00:50:32.5Z", 1795222232.5),
        ("2021-06-01T02:00:00+02:00", 1622505600.0),
        ("2021-05-31T19:00:00-05:00", 1622505600.0),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("nonsense", 0.0),
        ("", 0.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds
    if seconds > 0:
        assert parse_time(rfc3339(seconds)) == seconds
