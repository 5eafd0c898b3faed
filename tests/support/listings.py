"""What listing commands show: headings, `--format` fields and JSON keys, of Podman and of ours, for one set of objects.

    python3 -m tests.support.listings podman BUSYBOX.tar > tests/data/podman/listings.json

records Podman's (5.4.2's is there). The objects are made by `make`; `look` gathers what is compared.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

Run = Callable[..., str]

#: Commands that print a table: its headings are compared.
TABLES = (
    "container ls -a",
    "image ls",
    "volume ls",
    "network ls",
    "system df",
    "system df -v",
    "history IMAGE",
    "top seen",
    "secret ls",
    "pod ps",
    "ps -a --pod --size",
    "ps -a --ns",
)
#: Commands that print facts with their names before them.
FACTS = ("version", "image tree IMAGE")
#: Commands that print JSON, or do so when asked to.
DOCUMENTS = (
    "container ls -a --format json",
    "image ls --format json",
    "volume ls --format json",
    "network ls --format json",
    "system df --format json",
    "history IMAGE --format json",
    "diff seen --format json",
    "events --stream=false --since 5m --filter event=died --format json",
    "version --format json",
    "info --format json",
    "volume inspect seen",
    "network inspect mine",
    "container inspect seen",
    "image inspect IMAGE",
    "image diff IMAGE --format json",
)
#: Commands whose `--format` takes fields, and how they are called for one object.
FIELDS = {
    "container ls": "container ls -a",
    "image ls": "image ls",
    "volume ls": "volume ls",
    "network ls": "network ls",
    "system df": "system df",
    "stats": "stats --no-stream seen",
    "history": "history IMAGE",
    "events": "events --stream=false --since 5m --filter event=died",
    "version": "version",
    "info": "info",
    "volume inspect": "volume inspect seen",
    "network inspect": "network inspect mine",
    "container inspect": "container inspect seen",
    "image inspect": "image inspect IMAGE",
    "search": "",
    "auto-update": "",
    "secret ls": "",
    "pod ps": "",
    "pod inspect": "",
    "pod stats": "",
    "system connection ls": "",
}
#: Maps whose keys are data and no names.
_DATA = ("Labels", "labels", "Annotations", "Options", "options", "Details", "ExposedPorts", "Networks", "containers",
         "ipam_options", "Sysctls", "Tmpfs", "LowerDir")  # fmt: skip


def make(run: Run, archive: str) -> None:
    run("load", "--input", archive)
    run("volume", "create", "--label", "a=b", "seen")
    run("network", "create", "mine")
    run(
        "run", "-d", "--name", "seen", "--network", "none", "-v", "seen:/v", "-v", "/tmp:/t", "--health-cmd", "true",
        "--health-interval", "disable", "--tmpfs", "/q", "--label", "a=b", "--expose", "80", IMAGE, "sleep", "1000",
    )  # fmt: skip
    run("run", "--name", "done", "--network", "none", IMAGE, "true")
    run("exec", "seen", "touch", "/made")
    run("healthcheck", "run", "seen")


IMAGE = "localhost/busybox:latest"


def words(line: str) -> list[str]:
    return [IMAGE if word == "IMAGE" else word for word in line.split()]


def headings(text: str) -> list[list[str]]:
    """The rows of capitals that stand above tables."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return [row for row in rows if all(re.fullmatch(r"[A-Z# %/]+", cell) for cell in row)]


def labels(text: str) -> list[str]:
    return [line.partition(":")[0].strip() for line in text.splitlines() if ":" in line]


def keys(document: Any, path: str = "") -> list[str]:
    """Every key in a document as a path; of a list, those of all its elements."""
    found: set[str] = set()
    if isinstance(document, dict):
        for key, value in document.items():
            place = f"{path}.{key}" if path else key
            found.add(place)
            if key not in _DATA:
                found.update(keys(value, place))
    elif isinstance(document, list):
        for value in document:
            found.update(keys(value, path))
    return sorted(found)


def look(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"tables": {}, "facts": {}, "documents": {}}
    for line in TABLES:
        found["tables"][line] = headings(run(*words(line)))
    for line in FACTS:
        found["facts"][line] = labels(run(*words(line)))
    for line in DOCUMENTS:
        text = run(*words(line))
        if line.startswith("events"):
            text = f"[{','.join(text.splitlines())}]"
        found["documents"][line] = keys(json.loads(text))
    return found


def fields(run: Run) -> dict[str, list[str]]:
    """What Podman's completion offers after `--format {{.`; functions and parts that have parts themselves without dots."""
    found = {}
    for line in FIELDS:
        offered = run("__complete", *line.split(), "--format", "{{.").splitlines()
        names = [one.partition("\t")[0] for one in offered if one.startswith("{{.")]
        found[line] = [one.removeprefix("{{.").removesuffix("}}").rstrip(".") for one in names]
    return found


def main(program: Sequence[str], archive: str) -> None:
    def run(*args: str) -> str:
        return subprocess.run([*program, *args], check=True, capture_output=True, text=True).stdout

    make(run, archive)
    json.dump({**look(run), "fields": fields(run)}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(sys.argv[1].split(), sys.argv[2])
