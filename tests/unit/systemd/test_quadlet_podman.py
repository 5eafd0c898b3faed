"""Our generator beside Podman's: the same units, word for word, but for what is listed here.

The files of tests/data/quadlet hold every key of every section. Podman's answers are data; where its generator is
installed it is asked again.

Ours differs: the command is `rootless`; the unit waited for is ours, and the folder of the run-time state; a container's
stale id file is removed before its start. The order of options follows the table, whereas Podman's varies by run. A file
with a mistake takes no other file with it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest

from rootless.systemd.quadlet import Generator, find
from rootless.systemd.quadlet_file import Value, split
from rootless.systemd.quadlet_keys import KINDS
from rootless.systemd.quadlet_units import MARK, Unit
from tests.support import quadlet as podman

RECORDED: dict[str, dict[str, Any]] = json.loads(podman.STORED.read_text())
CASES = podman.cases()
SAME = [case for case in CASES if case != "differs"]
#: In messages: what Podman says, and what we say instead.
WORDS = {
    "incorrect mount format": "incorrect mount format",
    "unsupported value for WorkingDirectory: /x ": "unsupported value for WorkingDirectory",
    "cannot get the resource name of template@.container": "template@.container is a template, which only another",
    "file contains line 2: “foo bar” which is not a key-value pair, group, or comment": "'foo bar' is not a key-value pair, a section or a comment",
    "file contains line 2: “=x” which is not a key-value pair, group, or comment": "'=x' is not a key-value pair, a section or a comment",
    "file contains line 1: “[Container” which is not a key-value pair, group, or comment": "invalid section header '[Container'",
    "file contains line 1: “[Cont]ainer” which is not a key-value pair, group, or comment": "invalid section header '[Cont]ainer'",
    "key file does not start with a group": "Image= stands before the first section",
}


@cache
def ours(case: str) -> tuple[dict[str, Unit], list[str], list[str]]:
    sources, errors = find(podman.folders_of(case))
    generator = Generator(sources, "/usr/bin/podman")
    units, more = generator.run()
    return (
        {unit.name: unit for unit in units},
        [error.message for error in errors + more],
        generator.warnings,
    )


def command(text: str) -> list[str]:
    """A command's words, options with their values sorted: Podman takes many of them from a map."""
    groups: list[list[str]] = [[]]
    for word in split(Value(text, "")):
        if word.startswith("-") and len(word) > 1:
            groups.append([])
        groups[-1].append(word)
    return [word for group in [groups[0], *sorted(groups[1:-1]), *groups[-1:]] for word in group]


def lines(text: str) -> list[list[str]]:
    """A unit's lines, commands in words. Between different keys the order means nothing: it varies in Podman by kind."""
    found: list[list[str]] = []
    for section in re.split(r"(?m)^(?=\[)", text.strip("\n")):
        rows = []
        for line in section.splitlines():
            key, equals, value = line.partition("=")
            if equals and key.startswith("Exec") and key != "Exec":
                rows.append([key, *command(value)])
            elif key == "RequiresMountsFor":
                rows.append([key, *split(Value(value, ""))])
            else:
                rows.append([key, value])
        made = section.startswith(("[Unit]", "[Service]"))
        found += sorted(rows, key=lambda row: row[0]) if made else rows
    return found


def theirs(text: str) -> list[list[str]]:
    # Written files begin with who wrote them and an empty comment.
    return lines(text.partition("\n# \n")[2])


def without_own(text: str) -> list[list[str]]:
    assert text.startswith(f"{MARK}\n\n")
    text = text.removeprefix(f"{MARK}\n\n").replace(str(podman.CASES), "@CASES@")
    text = text.replace("rootless-user-wait-network-online", "podman-user-wait-network-online")
    text = text.replace("=%t/rootless\n", "=%t/containers\n")
    return lines(text.replace("ExecStartPre=-/bin/rm -f %t/%N.cid\n", ""))


def compare(case: str, recorded: dict[str, Any]) -> None:
    units, errors, _ = ours(case)
    assert sorted(units) == sorted(recorded["units"])
    for name, text in recorded["units"].items():
        assert without_own(units[name].text) == theirs(text), name
    links = {link: target for unit in units.values() for link, target in unit.install}
    assert links == recorded["links"]
    assert (1 if errors else 0) == recorded["code"]
    assert len(errors) == len(recorded["messages"])
    for told in recorded["messages"]:
        name, what = re.fullmatch(r'(?:converting|error loading) "([^"]*)"[:,] (.*)', told).groups()  # type: ignore[union-attr]
        what = what.partition(" in @CASES@")[0]
        what = next((own for word, own in WORDS.items() if what.startswith(word)), what)
        name = name.rpartition("/")[2]
        (message,) = (one for one in errors if f"/{name}:" in one)
        assert what in message


@pytest.mark.parametrize("case", SAME)
def test_the_units_are_podmans(case: str) -> None:
    compare(case, RECORDED[case])


@pytest.mark.needs("podman-5.4-quadlet")
@pytest.mark.parametrize("case", SAME)
def test_podman_says_the_same_here(case: str) -> None:
    compare(case, podman.ask(podman.binary(), case))


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_among_the_cases(kind: str) -> None:
    section, keys, _ = KINDS[kind]
    used = {
        key
        for case in SAME
        for source in find(podman.folders_of(case))[0]
        if source.name.endswith(f".{kind}") and case != "mistake"
        for key, value in source.keys(section)
        if value.text
    }
    assert set(keys) == used


def service(name: str, key: str) -> list[str]:
    text = ours("differs")[0][name].text
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def test_differs_templates_of_volumes_and_networks() -> None:
    """Podman's are named template@-volume.service, an instance of another template, and make `systemd-template@`."""
    assert "template@-volume.service" in RECORDED["differs"]["units"]
    (made,) = service("template-volume@.service", "ExecStart")
    assert made.endswith(" systemd-%p_%i")
    assert {"template-volume@%i.service", "template-network@%i.service"} <= set(
        service("uses@.service", "Requires")
    )
    words = split(Value(service("uses@.service", "ExecStart")[0], ""))
    assert "systemd-template-volume_%i:/x" in words
    assert "systemd-template-network_%i" in words


def test_differs_quotes_and_empty_words() -> None:
    """Podman loses a quote that ends a value, and all words that follow an empty one."""
    assert "b" not in split(
        Value(RECORDED["differs"]["units"]["quotes.service"].rpartition("ExecStart=")[2], "")
    )
    (text,) = service("quotes.service", "ExecStart")
    words = split(Value(text, ""))
    assert words[words.index("--health-cmd") + 1] == 'sh -c "x y"'
    assert words[-5:] == ["a", "", "b", ";", ";"] and text.endswith('";" ";"')


def test_differs_mounts_with_spaces() -> None:
    """Unquoted they would be two paths."""
    assert "RequiresMountsFor=/a b\n" in RECORDED["differs"]["units"]["space.service"]
    assert '"/a b"' in service("space.service", "RequiresMountsFor")


def test_differs_a_pods_service_keeps_what_the_file_says() -> None:
    assert "MINE=1" not in RECORDED["differs"]["units"]["own-pod.service"].partition("[Service]")[2]
    assert service("own-pod.service", "Environment") == ["MINE=1", "PODMAN_SYSTEMD_UNIT=%n"]
    assert service("own-pod.service", "Restart") == ["always"]


def test_differs_lines_that_go_on() -> None:
    """As systemd.syntax(7) has it, a space takes the place of the backslash."""
    assert "--tmpfs /ab " in RECORDED["differs"]["units"]["join.service"]
    assert '"/a b"' in service("join.service", "ExecStart")[0]


def test_short_names_are_warned_of() -> None:
    assert "short.service" in ours("differs")[0]
    assert any(
        "/short.container:2: busybox is not a fully qualified" in one for one in ours("differs")[2]
    )
    assert any(
        'short.container specifies the image "busybox"' in one
        for one in RECORDED["differs"]["messages"]
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("escape.container:3", r"\q: no such escape"),
        ("unclosed.container:3", "is not closed"),
        ("label.container:3", "Label=bare: not NAME=VALUE"),
        ("flag.container:3", "neither true nor false"),
        ("name with space.container", "is no name for a unit"),
        ("user.volume:2", "there is no such user"),
        ("alias.container:4", "not the name of a service"),
    ],
)
def test_differs_mistakes_that_podman_passes_over(name: str, why: str) -> None:
    """Podman drops the rest of the line, the option or the link, or takes another value, and says nothing."""
    assert any(f"/{name}: " in one and why in one for one in ours("differs")[1])
