"""What systemd reads in a unit's lines is what was meant, whatever characters it has (security case 49)."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from rootless.errors import RootlessError
from rootless.systemd.generate import Facts, Wishes, make_unit, unit_name
from rootless.systemd.units import check_unit_name, check_value, command_line, quote, variable

_UNESCAPED = {
    "a": 7,
    "b": 8,
    "f": 12,
    "n": 10,
    "r": 13,
    "t": 9,
    "v": 11,
    "s": 32,
    '"': 34,
    "'": 39,
    "\\": 92,
}


def lines_of(text: str) -> list[tuple[str, str]]:
    """A unit's (key, value) as systemd's config_parse reads them: comments, continuations."""
    found = []
    whole = ""
    for line in text.split("\n"):
        if line.lstrip().startswith(("#", ";")):
            continue
        stripped = line.rstrip()
        if (len(stripped) - len(stripped.rstrip("\\"))) % 2:
            whole += stripped[:-1] + " "
            continue
        whole += line
        key, equals, value = whole.strip().partition("=")
        if equals:
            found.append((key.strip(), value.strip()))
        whole = ""
    return found


def words_of(value: str, *, command: bool = True) -> list[bytes]:
    """systemd's extract_first_word with unquoting and C escapes, then specifiers and variables."""
    words: list[bytes] = []
    at = 0
    while at < len(value):
        while at < len(value) and value[at] in " \t\n\r":
            at += 1
        if at == len(value):
            break
        word, mark = bytearray(), ""
        while at < len(value):
            c = value[at]
            at += 1
            if mark and c == mark:
                mark = ""
            elif not mark and c in "\"'":
                mark = c
            elif not mark and c in " \t\n\r":
                break
            elif c == "\\":
                c = value[at]
                at += 1
                if c == "x":
                    word.append(int(value[at : at + 2], 16))
                    at += 2
                else:
                    word.append(_UNESCAPED[c])
            else:
                word += c.encode()
        assert not mark, "unbalanced"
        words.append(bytes(word))
    return [_expand(word, command) for word in words]


def _expand(word: bytes, command: bool) -> bytes:
    out = bytearray()
    at = 0
    while at < len(word):
        c = word[at : at + 1]
        if c == b"%" or (command and c == b"$"):
            assert word[at + 1 : at + 2] == c, f"{word!r} has a meaning to systemd"
            at += 1
        out += c
        at += 1
    return bytes(out)


HARD = [
    "", " ", "a b", "\n", "a\nExecStart=/bin/evil", "%n", "50%", "$HOME", "${X}", "$", "\\", "a\\", "\\\\", '"', "'", '\\"',
    "#c", ";", "; rm", "\t", "\x01", "é", "\udcff", "[Service]", "-", "--a=b c", "\r", "x\\\n", "{}", "@x", "+y", "!", "a=b",
]  # fmt: skip


@pytest.mark.parametrize("word", HARD)
def test_case_49_a_word_stays_itself(word: str) -> None:
    meant = word.encode("utf-8", "surrogateescape")
    (pair,) = lines_of(f"[Service]\nExecStart={command_line(['/bin/x', word, 'end'])}\n")
    assert words_of(pair[1]) == [b"/bin/x", meant, b"end"]
    if word:
        (pair,) = lines_of(f"Environment={variable('A', word)}\n")
        assert words_of(pair[1], command=False) == [b"A=" + meant]


def test_case_49_any_words_stay_themselves() -> None:
    chance = random.Random(49)
    letters = "ab \t\n\r\\\"'%$#;=[]{}-\x01\x7f\udc80é"
    for _ in range(1000):
        words = [
            "".join(chance.choices(letters, k=chance.randrange(60)))
            for _ in range(chance.randrange(1, 12))
        ]
        text = f"[Service]\nExecStart={command_line(['/bin/x', *words])}\nRestart=no\n"
        pairs = lines_of(text)
        assert [key for key, _ in pairs] == ["ExecStart", "Restart"]
        assert words_of(pairs[0][1])[1:] == [
            one.encode("utf-8", "surrogateescape") for one in words
        ]
        text.encode()  # systemd passes over lines that are no UTF-8


def test_nul_cannot_be_said() -> None:
    with pytest.raises(RootlessError):
        quote("a\0b")


def test_names_and_values() -> None:
    assert check_unit_name("container-a_b.c@") == "container-a_b.c@"
    for name in ("", "a/b", "a b", "é", "a\nb", ".x", "a" * 250):
        with pytest.raises(RootlessError):
            check_unit_name(name)
    for value in ("a\nb", "a\\", "a\\ "):
        with pytest.raises(RootlessError):
            check_value("Key", value)


def facts(*, new: bool = True) -> tuple[Facts, Wishes]:
    made = Facts("ab" * 32, "web", "/bin/echo", "/home/u/my data/rootless")
    made.own_name = "web"
    made.options = [("--publish=80:80",), ("--env-file=/home/u/secret.env",), ("--env=A=%h $B",)]
    made.rest = ["img", "sh", "-c", "echo 'x' \\"]
    wishes = Wishes()
    wishes.new = new
    wishes.by_name = True
    return made, wishes


def test_new() -> None:
    made, wishes = facts()
    assert unit_name(made, wishes) == "container-web"
    pairs = dict(lines_of(make_unit(made, wishes)))
    start = words_of(pairs["ExecStart"].replace("%t/%n", "T"))
    assert start == [
        b"/bin/echo", b"run", b"--cidfile=T.ctr-id", b"--cgroups=split", b"--rm", b"--sdnotify=conmon", b"-d", b"--replace",
        b"--name=web", b"--publish=80:80", b"--env-file=/home/u/secret.env", b"--env=A=%h $B", b"img", b"sh", b"-c",
        b"echo 'x' \\",
    ]  # fmt: skip
    assert pairs["Restart"] == "on-failure" and pairs["TimeoutStopSec"] == "70"
    assert words_of(pairs["RequiresMountsFor"]) == [b"/home/u/my data/rootless"]


def test_start() -> None:
    made, wishes = facts(new=False)
    wishes.env = ["A=1 2"]
    wishes.restart_sec = 5
    pairs = lines_of(make_unit(made, wishes))
    assert ("ExecStart", "/bin/echo start web") in pairs
    assert ("Environment", '"A=1 2"') in pairs and ("RestartSec", "5") in pairs
    assert ("Environment", "ROOTLESS_SDNOTIFY=conmon") in pairs


def test_template() -> None:
    made, wishes = facts()
    wishes.template = True
    assert unit_name(made, wishes) == "container-web@"
    assert "--name=web-%i" in make_unit(made, wishes)
    wishes.new = False
    with pytest.raises(RootlessError, match="requires --new"):
        make_unit(made, wishes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("restart_policy", "sometimes"),
        ("env", ["A"]),
        ("env", ["1=2"]),
        ("after", ["a b/c"]),
        ("wants", ["a\nb"]),
    ],
)
def test_mistakes(name: str, value: object) -> None:
    made, wishes = facts()
    setattr(wishes, name, value)
    with pytest.raises(RootlessError):
        make_unit(made, wishes)


def test_prefix_and_restart() -> None:
    made, wishes = facts()
    wishes.container_prefix = ""
    made.restart = "unless-stopped"
    assert unit_name(made, wishes) == "web"
    assert "\nRestart=always\n" in make_unit(made, wishes)
    wishes.restart_policy = "no"
    assert "\nRestart=no\n" in make_unit(made, wishes)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_no_mistake(tmp_path: Path, new: bool) -> None:
    made, wishes = facts(new=new)
    made.rest += HARD
    wishes.env = ["A=" + word.replace("\udcff", "") for word in HARD]
    (tmp_path / "container-web.service").write_text(make_unit(made, wishes))
    done = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "verify", str(tmp_path / "container-web.service")],
        capture_output=True, text=True, timeout=60, check=False,
        env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
