"""The file of compiled code: used while it fits its sources, made anew where it does not, and never in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.precompiled import FIRST, Precompiled

ROOT = Path(__file__).parents[2]

# As bin/rootless does it; then where each of our modules came from.
PROBE = """
import atexit, sys
sys.path.append(sys.argv.pop(1))
def tell():
    for name, module in sorted(sys.modules.items()):
        if name.startswith("rootless."):
            print(name, getattr(module, "__cached__", ""), module.__file__, file=sys.stderr)
atexit.register(tell)
from rootless.start import main
main()
"""


class Copy:
    """A copy of the package with a folder for compiled files of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("rootless", "slirp", "config"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        self.home = folder / "home"
        (self.home / "run").mkdir(parents=True)
        (self.home / "run").chmod(0o700)
        self.compiled = folder / f"rootless/__pycache__/commands.{sys.implementation.cache_tag}.bin"

    def run(self, *words: str) -> tuple[str, dict[str, str]]:
        """What a command printed, and from which compiled file it loaded each module."""
        result = subprocess.run(
            [sys.executable, "-I", "-S", "-c", PROBE, str(self.folder), *words],
            env={
                "HOME": str(self.home),
                "XDG_RUNTIME_DIR": str(self.home / "run"),
                "PATH": os.defpath,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        places = {}
        for line in result.stderr.splitlines():
            name, cached, source = line.split(" ")
            places[name] = cached
            assert source.startswith(str(self.folder)), line
        return result.stdout, places


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_the_second_run_loads_from_it(copy: Copy) -> None:
    first, before = copy.run("version")
    assert before["rootless.cli.version"] != str(copy.compiled)
    second, after = copy.run("version")
    assert first == second
    assert after["rootless.cli.version"] == str(copy.compiled)
    assert after["rootless.cli"] == str(copy.compiled)
    made = copy.compiled.stat()
    copy.run("version")
    assert copy.compiled.stat().st_ino == made.st_ino  # nothing new: not written again


def test_another_command_adds_its_modules(copy: Copy) -> None:
    copy.run("version")
    copy.run("ps")
    for words in (["version"], ["ps"]):
        _, places = copy.run(*words)
        assert places[f"rootless.cli.{words[0]}"] == str(copy.compiled)


def test_a_changed_source_counts_at_once(copy: Copy) -> None:
    copy.run("version")
    source = copy.folder / "rootless/cli/version.py"
    text = source.read_text().replace(
        "def main(",
        'def main(inv: Invocation) -> int:\n    print("changed")\n    return 0\n\n\ndef _main(',
    )
    source.write_text(
        text.replace(
            "from __future__ import annotations\n", "from __future__ import annotations\n", 1
        )
    )
    out, places = copy.run("version")
    assert out == "changed\n"
    assert places["rootless.cli.version"] != str(copy.compiled)
    out, places = copy.run("version")
    assert out == "changed\n"
    assert places["rootless.cli.version"] == str(copy.compiled)


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "zeros", "another Python's"])
def test_a_damaged_file_is_written_anew(copy: Copy, damage: str) -> None:
    wanted, _ = copy.run("version")
    data = copy.compiled.read_bytes()
    copy.compiled.write_bytes(
        {
            "empty": b"",
            "cut": data[: len(data) // 2],
            "noise": os.urandom(len(data)),
            "zeros": data[:20_000] + bytes(len(data) - 20_000),
            "another Python's": data[:3] + b"xxxx" + data[7:],
        }[damage]
    )
    assert copy.run("version")[0] == wanted
    out, places = copy.run("version")
    assert out == wanted
    assert places["rootless.cli.version"] == str(copy.compiled)


def test_a_file_that_replaces_it_under_the_same_inode_is_seen(copy: Copy) -> None:
    """A file system gives a number that has become free to the next file, and a clock ticks every 4 ms."""
    copy.run("version")
    precompiled = Precompiled(str(copy.compiled.parent / "x"), str(copy.folder / "rootless/x.py"))
    entries = dict(precompiled.entries)
    assert "rootless.cli.version" in entries
    assert all(precompiled.read(entry) for entry in entries.values())
    before = copy.compiled.stat()
    copy.compiled.unlink()
    copy.run("version")
    other = copy.compiled.read_bytes()
    copy.compiled.write_bytes(other)
    os.utime(copy.compiled, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(other) == before.st_size
    assert not any(precompiled.read(entry) for entry in entries.values())


def test_where_nothing_may_be_written_nothing_is(copy: Copy) -> None:
    folder = copy.compiled.parent
    folder.mkdir()
    folder.chmod(0o500)
    first, _ = copy.run("version")
    second, places = copy.run("version")
    assert first == second
    assert str(copy.compiled) not in places.values()
    assert list(folder.iterdir()) == []
    folder.chmod(0o700)


def test_a_moved_package_loads_nothing_from_where_it_was(copy: Copy, tmp_path: Path) -> None:
    copy.run("version")
    other = Copy(tmp_path / "other")
    other.compiled.parent.mkdir()
    shutil.copy(copy.compiled, other.compiled)
    other.run("version")  # asserts where the sources are


INSTALL = "import sys; sys.path.insert(0, sys.argv[1]); import rootless.precompile as p; sys.exit(p.main())"


def test_who_installs_may_write_it_for_all(copy: Copy) -> None:
    subprocess.run([sys.executable, "-I", "-c", INSTALL, str(copy.folder)], check=True)
    copy.compiled.parent.chmod(0o500)
    try:
        _, places = copy.run("ps")
    finally:
        copy.compiled.parent.chmod(0o700)
    assert places["rootless.cli.ps"] == str(copy.compiled)
    assert places["rootless.cli.parse"] == str(copy.compiled)


# Loads what a command loads first; then names what that has loaded, and what its imports still looked for.
FIRST_PROBE = """
import sys
sys.path.append(sys.argv[1])
import rootless.start
from rootless.precompiled import FIRST, Precompiled
compiled = rootless.start.find_compiled()
before = set(sys.modules)
program, word = sys.argv[2].split()
compiled.load_first(program, ["--root", "x", word, "id"])
print(*(set(sys.modules) - before))
find_spec, asked = Precompiled.find_spec, []
def find(self, name, path=None, target=None):
    asked.append(name)
    return find_spec(self, name, path, target)
Precompiled.find_spec = find
for name in FIRST[sys.argv[2]].split():
    __import__("rootless." + name)
print(*[name for name in asked if name in compiled.entries])
"""


def first_of(copy: Copy, command: str) -> tuple[set[str], set[str]]:
    """What load_first has loaded, and what of ours was still looked for after it."""
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", FIRST_PROBE, str(copy.folder), command],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, asked = result.stdout.splitlines()
    return set(loaded.split()), set(asked.split())


def test_who_installs_writes_what_each_command_loads_first(copy: Copy) -> None:
    subprocess.run([sys.executable, "-I", "-c", INSTALL, str(copy.folder)], check=True)
    precompiled = Precompiled(str(copy.compiled), str(copy.folder / "rootless/x.py"))
    assert precompiled.pieces.keys() == FIRST.keys()
    for command, names in FIRST.items():
        loaded, asked = first_of(copy, command)
        assert {f"rootless.{name}" for name in names.split()} <= loaded, command
        assert asked == set(), command


def test_what_a_command_loads_first_is_learned_from_it(copy: Copy) -> None:
    assert first_of(copy, "rootless ps")[0] == set()
    copy.run("ps")
    loaded, asked = first_of(copy, "rootless ps")
    assert {"rootless.__main__", "rootless.cli.ps"} <= loaded
    assert asked == set()
    _, places = copy.run("ps")
    assert {places[name] for name in loaded if name in places} == {str(copy.compiled)}


def test_a_mistake_teaches_nothing(copy: Copy) -> None:
    probe = PROBE.replace("atexit.register(tell)", "")
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", probe, str(copy.folder), "run", "--frobnicate"],
        env={"HOME": str(copy.home)},
        capture_output=True,
        check=False,
    )
    assert first_of(copy, "rootless run")[0] == set()


def test_a_source_that_is_changed_or_gone_is_not_loaded_first(copy: Copy) -> None:
    copy.run("ps")
    changed = copy.folder / "rootless/cli/ps.py"
    changed.write_text(changed.read_text() + "\n# changed\n")
    gone = copy.folder / "rootless/container/__init__.py"
    gone.unlink()
    loaded, _ = first_of(copy, "rootless ps")
    assert "rootless.cli.parse" in loaded
    assert {"rootless.cli.ps", "rootless.container.engine"} & loaded == set()


def test_a_changed_module_is_learned_with_what_it_needs_now(copy: Copy) -> None:
    copy.run("ps")
    changed = copy.folder / "rootless/cli/ps.py"
    changed.write_text(
        changed.read_text().replace(
            "from __future__ import annotations\n",
            "from __future__ import annotations\n\nimport rootless.durations\n",
            1,
        )
    )
    copy.run("ps")
    loaded, asked = first_of(copy, "rootless ps")
    assert {"rootless.cli.ps", "rootless.durations"} <= loaded
    assert asked == set()
