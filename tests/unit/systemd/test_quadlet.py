"""Reading quadlet files, and what is written of them. test_quadlet_podman compares the units with Podman's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rootless.systemd.quadlet import Generator, find, folders, has_generator, write
from rootless.systemd.quadlet_file import QuadletError, Source, Value, drop_in_folders, load, split
from rootless.systemd.quadlet_units import Draft

CASES = Path(__file__).parents[2] / "data/quadlet"


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


def test_a_masked_generator_is_none(tmp_path: Path) -> None:
    """The first of its name counts, as in systemd.generator(7): its files are ours then."""
    high, low = tmp_path / "etc", tmp_path / "lib"
    places = [str(high), str(low)]
    for folder in (high, low):
        folder.mkdir()
    assert not has_generator("g", places)
    (low / "g").write_text("#!/bin/sh\n")
    (low / "g").chmod(0o755)
    assert has_generator("g", places)
    (high / "g").symlink_to("/dev/null")
    assert not has_generator("g", places)


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


@pytest.mark.parametrize(
    "case", ["build", "container", "image", "kube", "network", "pod", "template", "volume"]
)
@pytest.mark.needs("systemd-analyze")
def test_written_units_are_systemds(case: str, tmp_path: Path) -> None:
    sources, _ = find([str(CASES / case)])
    units, _ = Generator(sources, "/bin/echo").run()
    write(units, str(tmp_path))
    names = [unit.name.replace("@.", "@7.") for unit in units]
    done = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "--recursive-errors=no", "verify", *(str(tmp_path / name) for name in names)],
        capture_output=True, text=True, timeout=60, check=False,
        env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:/usr/lib/systemd/user"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_draft_alone_makes_nothing() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Draft(None, None)  # type: ignore[abstract, arg-type]
