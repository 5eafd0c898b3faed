"""Every class of wrong command line, in the words and with the exit status of Podman 5.4.2 (tests/data/podman-mistakes.json)."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

from rootless.cli.table import ALIASES, COMMANDS, GROUPS, load
from tests.support.engine import Engine

CASES = json.loads(Path(__file__).parents[1].joinpath("data/podman-mistakes.json").read_text())


def exists(words: list[str]) -> bool:
    """Whether this engine has the command that the words name, or they name none at all."""
    path = ""
    for word in words:
        if word.startswith("-"):
            continue
        name = f"{path} {word}".strip()
        name = ALIASES.get(name, name)
        if name in COMMANDS:
            return True
        if name not in GROUPS:
            return False
        path = name
    return not path or any(name.startswith(path + " ") for name in COMMANDS)


#: Where ours says more than Podman's, or what is wrong in another order: the exit status is the same.
OWN_WORDS = {
    ("cp", "a", "b"),
    ("cp", "-", "-"),
    ("diff", "--format", "x", "a"),
    ("export", "-o", "/x/y", "nonex"),
}


def test_mistakes_read_as_podmans(rootless: Engine) -> None:
    rootless.ok("volume", "create", "a")  # one that the recorded calls found there
    wrong = []
    for words, status, message in CASES:
        if not exists(words):
            continue
        result = rootless(*words)
        if tuple(words) in OWN_WORDS and result.code == status:
            continue
        if (result.code, result.err.strip()) != (status, message.strip()):
            wrong.append(f"{result}\nwanted {status}: {message!r}\n")
    assert not wrong, "\n".join(wrong)


def test_unknown_commands(rootless: Engine) -> None:
    assert rootless.fails("foo").startswith("Error: unrecognized command `rootless foo`\n")
    assert "\n\nDid you mean this?\n\tps\n" in rootless.fails("pss")
    assert rootless.fails("foo").endswith("\nTry 'rootless --help' for more information\n")
    assert rootless.fails("container", "foo") == (
        "Error: unrecognized command `rootless container foo`\n"
        "Try 'rootless container --help' for more information\n"
    )


def test_absent_commands_say_why(rootless: Engine) -> None:
    assert rootless.fails("machine", "init") == (
        "Error: rootless has no command `machine`: containers need no virtual machine on Linux\n"
    )
    assert rootless.fails("farm", "list").startswith("Error: rootless has no command `farm`: ")


def test_absent_options_say_why(rootless: Engine) -> None:
    error = rootless.fails("--remote", "ps")
    assert error.startswith("Error: --remote is not supported: rootless has no service")
    assert error.count("\n") == 1


def test_no_traceback_reaches_a_user(rootless: Engine) -> None:
    error = rootless.fails("ps", env={"XDG_DATA_HOME": "/proc/self/mem"})
    assert "Traceback" not in error and error.startswith("Error: ")


def test_closed_standard_streams(rootless: Engine) -> None:
    import os
    import subprocess

    for number in (0, 1, 2):
        process = rootless.popen(
            "ps",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda number=number: os.close(number),
        )
        assert process.wait(timeout=60) == 0


def test_version_and_help(rootless: Engine) -> None:
    assert rootless.ok("--version").startswith("rootless version ")
    assert rootless.ok("-v") == rootless.ok("--version")
    assert rootless.ok("--help") == rootless.ok("help")
    assert rootless.ok("ps", "--help") == rootless.ok("help", "ps")
    result = rootless()
    assert (result.code, result.err) == (125, "Error: missing command 'rootless COMMAND'\n")
    assert result.out == rootless.ok("--help") + "\n"


def calm(error: str, *, code: int, words: object) -> None:
    """No traceback, no exception of Python's, one error."""
    lines = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert code in (0, 1, 125), (code, words, error)  # 1: `inspect` of what is not there
    assert len(lines) == (1 if code else 0), (code, words, error)
    for bad in ("Traceback", "internal error", "TypeError", "KeyError", "NoneType", "has no attr"):
        assert bad not in error, (words, error)


#: What is written over a record: the beginning of it, other JSON than an object, members of other types, no text at all.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda good: good[: len(good) // 2],
    "empty": lambda good: b"",
    "a list": lambda good: b"[]",
    "other types": lambda good: (
        b'{"id":[],"name":{},"image":3,"options":[1],"created":"x","config":7,"init":"x"}'
    ),
    "bytes": lambda good: bytes(range(256)),
}


def test_damaged_records(fresh: Engine) -> None:
    """Each is named, nothing else suffers, and all is well again when it is mended."""
    fresh.ok(
        "run", "-d", "--name", "up", "--network", "none", "-v", "vol:/x", "host", "sleep", "1000"
    )
    fresh.ok("run", "--name", "done", "--network", "none", "host", "true")
    fresh.ok("network", "create", "net")
    done = fresh.inspect("done")["Id"]
    up = fresh.inspect("up")["Id"]
    image = fresh.inspect("done")["Image"]
    of_container = (
        ["ps", "-a"],
        ["inspect", "done"],
        ["start", "done"],
        ["rm", "--time", "0", "nosuch"],
    )
    commands: dict[Path, tuple[list[str], ...]] = {
        fresh.data / f"containers/{done}/container.json": of_container,
        fresh.data / f"containers/{done}/state.json": of_container[:2],
        fresh.data / f"containers/{done}/config.json": of_container[1:2],
        fresh.run / f"containers/{up}/live.json": (["ps"], ["inspect", "up"]),
        fresh.data / "volumes/vol/volume.json": (["volume", "ls"], ["volume", "inspect", "vol"]),
        fresh.data / "networks/net.json": (["network", "ls"], ["network", "inspect", "net"]),
        fresh.data / f"images/records/{image}": (["images"], ["image", "inspect", image]),
        fresh.data / "images/host.json": (["run", "--rm", "--network", "none", "host", "true"],),
    }
    for path, lines in commands.items():
        good = path.read_bytes()
        for damage, make in DAMAGES.items():
            path.write_bytes(make(good))
            for words in lines:
                result = fresh(*words)
                calm(result.err, code=result.code, words=(path.name, damage, words))
        path.unlink()
        path.mkdir()
        for words in lines:
            result = fresh(*words)
            calm(result.err, code=result.code, words=(path.name, "a folder", words))
        if path.is_dir():
            path.rmdir()
        path.write_bytes(good)
        for words in lines[:1]:
            fresh.ok(*words)
    assert fresh.ok("ps", "--format", "{{.Names}}") == "up"
    fresh.ok("rm", "-f", "-t", "0", "up")


#: What people type by mistake, and what they do not.
JUNK = (
    "", "-", "a", "nonexistent", "../..", "/", "@", "sha256:" + "0" * 64, "a:b:c:d", "x" * 300, "a\nb", "\udcff", "%s",
    "{{", "{{.Foo}}", "-1", "1e9", "99999999999999999999", "=", "a=b=c", ",,", "type=bind", "[", "*", "1h", "5x", "10g",
    "[::1]", "1.2.3.4/99", "/dev/null", "json", "none", "container:x", "keep-id:uid=", "/x:/y:zz", "since=", "2020-13-45T",
)  # fmt: skip


def test_nonsense(rootless: Engine, tmp_path: Path) -> None:
    """Every command once, with an option and arguments that are drawn; ROOTLESS_TEST_SEED draws others."""
    seed = os.environ.get("ROOTLESS_TEST_SEED", "1")
    draw = random.Random(seed)
    # These wait for someone, take away what the other tests have, or answer by their status alone.
    without = {"attach", "stats", "login", "events", "wait", "unshare", "system reset"}
    for name in sorted(COMMANDS):
        if name in without or name.endswith((" exists", " stats", " attach", " wait", " unshare")):
            continue
        words = name.split()
        options = [
            one for one in load(name).options if one.name not in ("follow", "stream", "latest")
        ]
        if options:
            words.append(f"--{draw.choice(options).name}={draw.choice(JUNK)}")
        words += [draw.choice(JUNK) for _ in range(draw.choice((0, 1, 1, 2)))]
        result = rootless(*words, cwd=tmp_path, timeout=60)
        error = result.err
        assert result.code in (0, 1, 2, 125, 126, 127, 130), (seed, result)
        assert "Traceback" not in error and "internal error" not in error, (seed, result)
        assert (
            (result.code == 0)
            or error.startswith(("Error: ", "WARN", "Trying", "rootless quadlet"))
            or "\nError: " in error
        ), (seed, result)
