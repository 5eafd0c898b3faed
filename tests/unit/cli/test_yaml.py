"""The YAML of `info` and `kube generate`, as Podman's encoder lays it out."""

from __future__ import annotations

import pytest

from rootless.cli.yaml import dump, scalar

DOCUMENT = {
    "host": {
        "arch": "amd64",
        "cgroupControllers": [],
        "conmon": {"version": "conmon version 2.1.12, commit: unknown", "path": "/usr/bin/conmon"},
        "cpus": 2,
        "idMappings": {
            "uidmap": [{"container_id": 0, "size": 1}, {"container_id": 1, "size": 65536}]
        },
        "distribution": {"version": "13"},
        "runtime": "crun version 1.21\nspec: 1.0.0\n+SYSTEMD",
        "variant": "",
    },
    "plugins": {"authorization": None, "log": ["k8s-file", "none"]},
    "registries": {},
    "nested": [["a", "b"], {"c": ["d"]}],
    "status": {"Native Overlay Diff": "true"},
    "exists": True,
}

TEXT = """\
exists: true
host:
  arch: amd64
  cgroupControllers: []
  conmon:
    path: /usr/bin/conmon
    version: 'conmon version 2.1.12, commit: unknown'
  cpus: 2
  distribution:
    version: "13"
  idMappings:
    uidmap:
    - container_id: 0
      size: 1
    - container_id: 1
      size: 65536
  runtime: |-
    crun version 1.21
    spec: 1.0.0
    +SYSTEMD
  variant: ""
nested:
- - a
  - b
- c:
  - d
plugins:
  authorization: null
  log:
  - k8s-file
  - none
registries: {}
status:
  Native Overlay Diff: "true"
"""


def test_layout() -> None:
    assert dump(DOCUMENT) == TEXT


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain text", "plain text"),
        ("it's", "it's"),
        ("a: b", "'a: b'"),
        ("a:b", "a:b"),
        ("ends:", "'ends:'"),
        ("a #b", "'a #b'"),
        ("- x", "'- x'"),
        ("*x", "'*x'"),
        ("'x'", "'''x'''"),
        ("1", '"1"'),
        ("1.5", '"1.5"'),
        ("0x1f", '"0x1f"'),
        ("1e3", '"1e3"'),
        ("2026-01-31", '"2026-01-31"'),
        ("1.2.3", "1.2.3"),
        ("yes", '"yes"'),
        ("NULL", '"NULL"'),
        ("~", '"~"'),
        ("a\tb\x1b", '"a\\tb\\x1b"'),
        (1, "1"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_scalars(value: object, text: str) -> None:
    assert scalar(value) == text
