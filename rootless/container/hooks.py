"""Which OCI hooks a container gets: the JSON files of --hooks-dir (oci-hooks(5)).

A hook is matched by what its user gave: annotations of the command line, the command, bind mounts. What an image says
of itself steers nothing here (security case 36).
"""

from __future__ import annotations

import os
import re
from typing import Any

from rootless.errors import RootlessError
from rootless.files import read_json

STAGES = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
    "precreate",
)


def add_hooks(
    spec: dict[str, Any], folders: list[str], annotations: dict[str, str], has_binds: bool
) -> None:
    """Add what matches to the spec; a file of a later folder replaces one of the same name before it."""
    files: dict[str, str] = {}
    for folder in folders:
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            continue
        for name in names:
            if name.endswith(".json"):
                files[name] = os.path.join(folder, name)
    for name in sorted(files):
        document = read_json(files[name])
        _check(files[name], document)
        if matches(document["when"], spec["process"]["args"], annotations, has_binds):
            for stage in document["stages"]:
                spec.setdefault("hooks", {}).setdefault(stage, []).append(document["hook"])


def _check(path: str, document: Any) -> None:
    problem = ""
    if not isinstance(document, dict) or document.get("version") != "1.0.0":
        problem = "version is not 1.0.0"
    elif not os.path.isabs((document.get("hook") or {}).get("path") or ""):
        problem = "hook.path is not an absolute path"
    elif not isinstance(document.get("when"), dict):
        problem = "when is missing"
    else:
        stages = document.get("stages") or []
        unknown = [stage for stage in stages if stage not in STAGES or stage == "precreate"]
        if not stages or unknown:
            problem = f"stages: {unknown[0] if unknown else 'none given'} is not known"
    if problem:
        raise RootlessError(
            f"OCI hook {path}: {problem}", hint="see oci-hooks(5), or take the file away"
        )


def matches(
    when: dict[str, Any], args: list[str], annotations: dict[str, str], has_binds: bool
) -> bool:
    """Whether every condition of `when` holds (oci-hooks(5), "1.0.0")."""
    if "always" in when and not when["always"]:
        return False
    if "hasBindMounts" in when and when["hasBindMounts"] != has_binds:
        return False
    commands = when.get("commands")
    if commands and not any(re.search(pattern, args[0]) for pattern in commands):
        return False
    for key, value in (when.get("annotations") or {}).items():
        if not any(re.search(key, k) and re.search(value, v) for k, v in annotations.items()):
            return False
    return any(key in when for key in ("always", "hasBindMounts", "commands", "annotations"))
