"""Which modules a hot command may load. Names, not times, so that it never flickers.

A command that needs one more says so here, and why it is worth what it costs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: What reading a command line needs.
FRONT_DOOR = frozenset(
    """
    __future__ os os.path stat _stat posixpath genericpath _collections_abc
    rootless rootless.__main__ rootless.errors
    rootless.cli rootless.cli.parse rootless.cli.table rootless.cli.options rootless.cli.output
    """.split()
)
#: What finding and reading a container's record needs; ctypes (types, struct) for system calls that `os` has not.
RECORDS = FRONT_DOOR | frozenset(
    """
    errno fcntl _json _ctypes
    rootless.config rootless.files rootless.log rootless.paths rootless.quickjson rootless.state
    rootless.container rootless.container.engine rootless.container.status
    rootless.linux rootless.linux.fs rootless.linux.libc rootless.linux.process rootless.linux.sched
    """.split()
)

CASES: list[tuple[str, list[str], frozenset[str]]] = [
    ("a mistake", ["ps", "--nonsense"], RECORDS | {"rootless.cli.ps"}),
    # errno is built into the interpreter, and loaded by `os` of some versions.
    ("version", ["version"], FRONT_DOOR | {"errno", "rootless.cli.version"}),
    ("ps", ["ps"], RECORDS | {"rootless.cli.ps"}),
    ("ps -a", ["ps", "-a", "--no-trunc"], RECORDS | {"rootless.cli.ps"}),
    (
        "ps --format",
        ["ps", "--format", "{{.Names}}"],
        RECORDS
        | {"rootless.cli.ps", "rootless.cli.listing", "rootless.cli.template"}
        | {f"rootless.cli.template_{part}" for part in ("nodes", "parse", "tokens", "values")},
    ),
]

PROBE = """
import sys
before = set(sys.modules)
sys.path.append(sys.argv.pop(1))
from rootless.__main__ import main
try:
    main(sys.argv[1:])
finally:
    sys.stderr.write("\\nLOADED " + " ".join(sorted(set(sys.modules) - before)))
"""


def loaded(words: list[str], home: Path) -> set[str]:
    """The modules that a command has loaded at its end, in an empty store, with its settings parsed by a command before."""
    if not (home / "run").exists():
        (home / "run").mkdir(mode=0o700)
        loaded(["ps"], home)
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROBE, str(ROOT), *words],
        env={"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    return set(result.stderr.rpartition("LOADED ")[2].split())


@pytest.mark.parametrize(
    ("words", "allowed"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_loads_no_more(words: list[str], allowed: frozenset[str], tmp_path: Path) -> None:
    found = loaded(words, tmp_path)
    assert "rootless.cli.parse" in found
    assert sorted(found - allowed) == []


def test_no_command_loads_typer_to_run(tmp_path: Path) -> None:
    for words in (["ps"], ["version"], ["rm", "nobody"], ["run", "--frobnicate"]):
        found = loaded(words, tmp_path)
        assert found and not found & {"typer", "click", "rich", "re", "typing", "argparse"}


OCI_PROBE = PROBE.replace("rootless.__main__", "rootless.ocicli.main")
#: What rootless-oci never loads: the engine, and what the standard library has of heavy modules.
NOT_FOR_OCI = (
    "rootless.container",
    "rootless.image",
    "rootless.storage",
    "rootless.cli",
    "rootless.state",
    "slirp",
)
HEAVY = {"typer", "click", "rich", "re", "typing", "argparse", "socket", "json", "subprocess", "pathlib", "logging", "enum"}  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["--help"],
        ["list"],
        ["state", "nobody"],
        ["features"],
        ["delete", "--force", "nobody"],
        ["kill", "nobody"],
        ["run", "nobody"],
        ["create", "--bundle", "/nonesuch", "nobody"],
        ["start", "nobody"],
        ["exec", "nobody", "true"],
        ["ps", "nobody"],
        ["update", "nobody"],
        ["events", "nobody"],
        ["pause", "nobody"],
    ],
    ids=lambda words: words[0],
)
def test_the_oci_runtime_loads_nothing_of_the_engine(words: list[str], tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", OCI_PROBE, str(ROOT), *words],
        env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    found = set(result.stderr.rpartition("LOADED ")[2].split())
    assert "rootless.ocicli.main" in found
    assert sorted(name for name in found if name.startswith(NOT_FOR_OCI)) == []
    assert found & HEAVY == set()
