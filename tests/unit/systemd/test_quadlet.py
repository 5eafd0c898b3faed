"""Quadlet files and the commands they become. The cases are files: their first comments say what is expected."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from rootless.systemd.quadlet import Generator, Unit, find, folders, write
from rootless.systemd.quadlet_file import QuadletError, Source, Value, drop_in_folders, load, split
from tests.unit.systemd.test_units import lines_of

CASES = Path(__file__).parents[2] / "data/quadlet"
NAMES = sorted(path.name for path in CASES.iterdir())


def made() -> tuple[dict[str, Unit], dict[str, str]]:
    sources, errors = find([str(CASES)])
    units, more = Generator(sources, "/bin/rootless").run()
    told = {os.path.basename(one.message.partition(":")[0]): one.message for one in errors + more}
    return {unit.source.name: unit for unit in units}, told


UNITS, ERRORS = made()


def plain(text: str) -> list[str]:
    """A command's words; systemd's quoting of ours is shell's too, but for `$`."""
    return shlex.split(text.replace("$", "\0"))


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str) -> None:
    comments = [
        line[2:] for line in (CASES / name).read_text().splitlines() if line.startswith("# ")
    ]
    if comments[0].startswith("error "):
        assert name not in UNITS
        assert comments[0].removeprefix("error ") in ERRORS[name]
        return
    assert name not in ERRORS, ERRORS
    pairs = lines_of(UNITS[name].text)
    command = next(value for key, value in pairs if key == "ExecStart")
    assert plain(command.replace("/bin/rootless", "rootless", 1)) == plain(comments[0])
    required = [value for key, value in pairs if key == "Requires"]
    for comment in comments[1:]:
        word, _, rest = comment.partition(" ")
        if word == "requires":
            assert required == rest.split()
        elif word == "links":
            assert [link for link, _ in UNITS[name].install] == rest.split()
        elif word == "service":
            assert UNITS[name].name == rest
    assert ("X-" + UNITS[name].text.rpartition("[X-")[2].partition("]")[0]) in (
        "X-Container", "X-Volume", "X-Network", "X-Image",
    )  # fmt: skip


def test_no_line_of_a_file_is_lost() -> None:
    text = UNITS["full.container"].text
    assert 'Exec=sh -c "echo $X \\"quoted\\"" ""' in text
    assert "Wants=rootless-user-wait-network-online.service" in text
    assert "rootless-user-wait" not in UNITS["aside.container"].text


def test_drop_ins(tmp_path: Path) -> None:
    (tmp_path / "a-b@1.container").write_text("[Container]\nImage=x\nTmpfs=/1\n")
    for folder, name, text in (
        ("container.d", "10-all.conf", "Tmpfs=/all"),
        ("a-.container.d", "20-dash.conf", "Tmpfs=/dash"),
        ("a-b@.container.d", "30-template.conf", "Tmpfs=/template"),
        ("a-b@1.container.d", "20-dash.conf", "Tmpfs=/own"),
        ("a-b@1.container.d", "40-x.conf", "ReadOnly=true"),
        ("other.container.d", "50.conf", "Imag=x"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(f"[Container]\n{text}\n")
    sources, errors = find([str(tmp_path)])
    assert errors == []
    (source,) = sources
    assert [value.text for value in source.all("Container", "Tmpfs")] == [
        "/1",
        "/all",
        "/own",
        "/template",
    ]
    assert source.flag("Container", "ReadOnly") is True


def test_the_first_folder_wins_and_the_others_drop_ins_hold(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place / "a.container.d").mkdir(parents=True)
        (tmp_path / place / "a.container").write_text(f"[Container]\nImage={place}\n")
    (tmp_path / "two/a.container.d/x.conf").write_text("[Container]\nExec=two\n")
    sources, _ = find([str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "none")])
    (source,) = sources
    image, command = source.last("Container", "Image"), source.last("Container", "Exec")
    assert image is not None and image.text == "one"
    assert command is not None and command.text == "two"


def test_folders() -> None:
    found = folders({}, 1000, "/c", "/r")
    assert found[:2] == ["/r/rootless/systemd", "/c/rootless/systemd"]
    assert folders({"QUADLET_UNIT_DIRS": "/a:/b"}, 1000, "/c", "/r") == ["/a", "/b"]


def test_empty_value_takes_back(tmp_path: Path) -> None:
    (tmp_path / "a.container").write_text("[Container]\nImage=x\nTmpfs=/a\nTmpfs=\nTmpfs=/b\n")
    assert [v.text for v in load(str(tmp_path / "a.container")).all("Container", "Tmpfs")] == ["/b"]


def test_lines_that_go_on() -> None:
    source = Source("/x/a.container")
    source.read("[Container]\nExec=a \\\n# comment\n  b\\\\ \\\n\n", "/x/a.container")
    value = source.last("Container", "Exec")
    assert value is not None and split(value) == ["a", "b\\"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a 'b c' \"d\"e", ["a", "b c", "de"]),
        (r"\x41\101\u00e9 \n\s", ["AAé", "\n "]),
        ("%h $X", ["%h", "$X"]),
        ('""', [""]),
    ],
)
def test_split(text: str, words: list[str]) -> None:
    assert split(Value(text, "f:1")) == words


@pytest.mark.parametrize("text", ["'a", "a\\", r"\q", r"\x0", r"\000", r"\UFFFFFFFF"])
def test_split_mistakes(text: str) -> None:
    with pytest.raises(QuadletError, match="^f:1: "):
        split(Value(text, "f:1"))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.container").write_bytes(b"[Container]\nImage=\xff\n")
    (tmp_path / "b.container").symlink_to("nowhere")
    (tmp_path / "c.container").write_bytes(b"#" * (2 << 20))
    _, errors = find([str(tmp_path)])
    assert len(errors) == 3


def test_order_of_drop_in_folders() -> None:
    assert drop_in_folders(["/a", "/b"], "x-y.container")[:2] == [
        "/b/container.d",
        "/a/container.d",
    ]


def test_written_units_are_systemds(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    sources, _ = find([str(CASES)])
    units, _ = Generator(sources, "/bin/echo").run()
    write(units, str(tmp_path))
    assert (tmp_path / "default.target.wants/sleep@100.service").readlink() == Path(
        "../sleep@.service"
    )
    names = [unit.name for unit in units if "@" not in unit.name] + ["sleep@7.service"]
    done = subprocess.run(
        [analyze, "--user", "--man=no", "verify", *(str(tmp_path / name) for name in names)],
        capture_output=True, text=True, timeout=60, check=False,
        env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:/usr/lib/systemd/user"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
