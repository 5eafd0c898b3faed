"""images, tag, untag, rmi, history, tree, prune: the words and columns of Podman 5.4.2."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.images import file, layer

pytestmark = pytest.mark.needs("userns", "subids")

BASE = layer([file("base", b"x" * 2000)])
TOP = layer([file("top", b"y" * 1000), file(".wh.base")])


def load(engine: Engine, folder: Path, name: str, *layers: bytes, **settings: object) -> str:
    path = images.docker_archive(folder / "i.tar", layers, [name] if name else [], **settings)
    said = engine.ok("load", "-i", str(path))
    return engine.ok("image", "inspect", "--format", "{{.Id}}", said.removeprefix("Loaded image: "))


@pytest.fixture
def family(fresh: Engine, tmp_path: Path) -> tuple[Engine, str, str]:
    """A base image and one built upon it."""
    base = load(fresh, tmp_path, "docker.io/library/base:1", BASE)
    child = load(fresh, tmp_path, "localhost/child:1", BASE, TOP)
    return fresh, base, child


def test_images_lists_names_and_sizes(family: tuple[Engine, str, str]) -> None:
    engine, base, child = family
    lines = engine("images").lines
    assert re.fullmatch(r"REPOSITORY +TAG +IMAGE ID +CREATED +SIZE", lines[0])
    rows = {re.split(r"  +", line)[0]: re.split(r"  +", line) for line in lines[1:]}
    assert rows["docker.io/library/base"][1:3] == ["1", base[:12]]
    assert rows["localhost/child"][1:3] == ["1", child[:12]]
    assert re.fullmatch(r"\d+(\.\d+)? kB", rows["localhost/child"][4])
    assert engine.ok("images", "-q", "--no-trunc", "base") == f"sha256:{base}"
    assert engine("images", "nosuch").lines == [lines[0][:0] + engine("images", "nosuch").lines[0]]
    assert len(engine("images", "-n").lines) == 2


def test_json_and_templates(family: tuple[Engine, str, str]) -> None:
    engine, base, _ = family
    [found] = engine("images", "--format", "json", "base").json
    assert found["Id"] == base
    assert found["Names"] == ["docker.io/library/base:1"]
    assert found["RepoDigests"] == [f"docker.io/library/base@{found['Digest']}"]
    assert engine.ok("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", "base") == (
        f"docker.io/library/base:1 {base[:12]}"
    )
    table = engine("images", "--format", "table {{.ID}}\t{{.Names}}", "base").lines
    assert table == [
        "IMAGE ID      NAMES",
        f"{base[:12]}  [docker.io/library/base:1]",
    ]
    result = engine("images", "--format", "{{.Nosuch}}", "base")
    assert result.code == 125


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["reference=base"], ["base"]),
        (["reference=*chil*"], ["child"]),
        (["reference=docker.io/*/*"], ["base"]),
        (["dangling=true"], []),
        (["dangling=false"], ["base", "child"]),
        (["label=a"], ["child"]),
        (["label=a=1"], ["child"]),
        (["label=a=2"], []),
        (["label!=a"], ["base"]),
        (["containers=true"], []),
        (["readonly=true"], []),
        (["until=1h"], ["base", "child"]),
        (["until=2000-01-01T00:00:00Z"], []),
        (["since=base:1"], []),
    ],
)
def test_filters(fresh: Engine, tmp_path: Path, filters: list[str], expected: list[str]) -> None:
    load(fresh, tmp_path, "docker.io/library/base:1", BASE)
    load(fresh, tmp_path, "localhost/child:1", BASE, TOP, Labels={"a": "1"})
    words = [word for one in filters for word in ("--filter", one)]
    found = fresh("images", "--format", "{{.Repository}}", *words).lines
    assert sorted(line.rpartition("/")[2] for line in found) == expected


def test_a_word_finds_names_beside_the_image_that_it_resolves_to(
    fresh: Engine, tmp_path: Path
) -> None:
    identity = load(fresh, tmp_path, "localhost/other:1", BASE)
    load(fresh, tmp_path, "127.0.0.1:5000/base:1", BASE, TOP)
    # A hexadecimal name is also the start of an id, and both are meant.
    fresh.ok("tag", "127.0.0.1:5000/base:1", f"127.0.0.1:5000/{identity[:3]}:1")
    fresh.ok("tag", "127.0.0.1:5000/base:1", "localhost/base:1")
    listed = fresh.ok("images", "-q", "--no-trunc", identity[:3]).split()
    assert len(set(listed)) == 2
    assert len(fresh("images", "--format", "{{.ID}}", "base:1").lines) == 3
    load(fresh, tmp_path, "localhost/third/base:1", layer([file("third", b"3")]))
    assert len(set(fresh.ok("images", "-q", "base:1").split())) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["images", "--filter", "foo"], "must be in the format"),
        (["images", "--filter", "foo=bar"], "unsupported image filter 'foo'"),
        (["images", "--filter", "before=nosuch"], "could not find local image for filter"),
        (["images", "--sort", "foo"], "created, id, repository, size, tag"),
        (["images", "-q", "--format", "x"], "quiet and format are mutually exclusive"),
        (["images", "a", "b"], "at most 1"),
        (["tag", "nosuch", "x"], "nosuch: image not known"),
        (["tag", "base:1", "BAD NAME"], "invalid reference format"),
        (["tag", "base:1", "x@sha256:" + "a" * 64], "tag by digest not supported"),
        (["untag", "nosuch"], "nosuch: image not known"),
        (["untag", "base:1", "child:1"], "child:1: tag not known"),
        (["history", "nosuch"], "nosuch: image not known"),
        (["image", "tree", "nosuch"], "nosuch: image not known"),
        (["image", "diff", "nosuch"], "nosuch not found: nosuch: image not known"),
        (["rmi"], "image name or ID must be specified"),
        (["rmi", "-a", "x"], "you may not pass any images names"),
    ],
)
def test_mistakes(family: tuple[Engine, str, str], words: list[str], message: str) -> None:
    engine, _, _ = family
    result = engine(*words)
    assert result.code == 125
    assert message in result.err


def test_tag_untag_and_the_order_of_names(family: tuple[Engine, str, str]) -> None:
    engine, base, _ = family
    engine.ok("tag", "base:1", "one", "quay.io/x/two:3")
    [found] = engine("image", "inspect", base).json
    assert found["RepoTags"] == [
        "quay.io/x/two:3",
        "localhost/one:latest",
        "docker.io/library/base:1",
    ]
    engine.ok("untag", "base:1", "one")
    assert engine("image", "exists", "one").code == 1
    engine.ok("untag", base)
    [found] = engine("image", "inspect", base).json
    assert found["RepoTags"] == []
    # Nameless, and another image stands upon it: an intermediate image.
    assert base[:12] not in engine.ok("images")
    assert base[:12] in engine.ok("images", "-a")


def test_rmi_takes_names_first_and_parents_last(family: tuple[Engine, str, str]) -> None:
    engine, base, child = family
    engine.ok("tag", child, "extra:1")
    assert engine("rmi", "extra:1").lines == ["Untagged: localhost/extra:1"]
    engine.ok("untag", base)
    assert engine("rmi", "child:1").lines == [
        "Untagged: localhost/child:1",
        f"Deleted: {child}",
        f"Deleted: {base}",
    ]
    assert engine("images", "-aq").out == ""


def test_rmi_by_id_wants_force_where_there_are_more_names(family: tuple[Engine, str, str]) -> None:
    engine, _, child = family
    engine.ok("tag", child, "extra:1")
    result = engine("rmi", child[:12])
    assert result.code == 125
    assert f'unable to delete image "{child}" by ID with more than one tag' in result.err
    assert engine("rmi", "-f", child[:12]).lines[-1] == f"Deleted: {child}"


def test_rmi_of_a_used_image_names_the_container(rootless: Engine, busybox: str) -> None:
    for name in rootless.ok(
        "image", "inspect", "--format", '{{join .RepoTags " "}}', busybox
    ).split():
        if name != busybox:
            rootless.ok(
                "untag", busybox, name
            )  # another test's: only the last name holds the image
    container = rootless.ok("create", busybox, "true")
    result = rootless("rmi", busybox)
    assert result.code == 2
    assert f"image used by {container}: image is in use by a container" in result.err
    rootless.ok("rm", container)


def test_rmi_tells_all_names_before_the_ids(fresh: Engine, tmp_path: Path) -> None:
    one = load(fresh, tmp_path, "localhost/one:1", layer([file("one", b"1")]))
    two = load(fresh, tmp_path, "localhost/two:1", layer([file("two", b"2")]))
    assert fresh("rmi", "two:1", "one:1").lines == [
        "Untagged: localhost/two:1",
        "Untagged: localhost/one:1",
        f"Deleted: {two}",
        f"Deleted: {one}",
    ]


def test_rmi_of_what_is_not_there(fresh: Engine) -> None:
    result = fresh("rmi", "nosuch")
    assert (result.code, result.err) == (1, "Error: nosuch: image not known\n")
    assert fresh("rmi", "--ignore", "nosuch").code == 0
    result = fresh("rmi", "one", "two")
    assert (
        result.err
        == "Error: 2 errors occurred:\n\t* one: image not known\n\t* two: image not known\n"
    )


def test_removing_everything_leaves_an_empty_store(
    family: tuple[Engine, str, str], tmp_path: Path
) -> None:
    engine, _, _ = family
    engine.ok("rmi", "-af")
    store = json.loads(engine.ok("images", "--format", "json"))
    assert store == []
    [root] = [path for path in engine.folder.rglob("images") if path.is_dir()]
    for name in ("layers", "records", "names", "tmp", "blobs/sha256"):
        assert list((root / name).iterdir()) == [], name


def test_history_and_tree(family: tuple[Engine, str, str]) -> None:
    engine, base, child = family
    lines = engine("history", "child:1").lines
    assert re.fullmatch(r"ID +CREATED +CREATED BY +SIZE +COMMENT", lines[0])
    assert [line.split()[0] for line in lines[1:]] == [child[:12], base[:12]]
    steps = engine("history", "--format", "json", "child:1").json
    assert [step["CreatedBy"] for step in steps] == ["layer 1", "layer 0"]
    assert [step["size"] for step in steps] == [len(TOP), len(BASE)]
    assert engine("history", "-q", "--no-trunc", "child:1").lines == [child, base]
    tree = engine("image", "tree", "child:1").lines
    assert tree[1] == "Tags:     [localhost/child:1]"
    assert tree[4].startswith("├── ID: ")
    assert tree[4].endswith("Top Layer of: [docker.io/library/base:1]")
    assert tree[5].endswith("Top Layer of: [localhost/child:1]")
    above = engine("image", "tree", "--whatrequires", "base:1").lines
    assert above[5].startswith("    └── ID: ")


def test_image_diff(family: tuple[Engine, str, str]) -> None:
    engine, _, _ = family
    assert engine("image", "diff", "child:1").lines == ["D /base", "A /top"]
    assert engine("image", "diff", "base:1").lines == ["A /base"]
    assert engine("image", "diff", "--format", "json", "child:1").json == {
        "added": ["/top"],
        "deleted": ["/base"],
    }
    assert engine("image", "diff", "child:1", "base:1").lines == ["A /top", "D /base"]


def test_prune(family: tuple[Engine, str, str]) -> None:
    engine, base, child = family
    engine.ok("untag", child)
    assert engine("image", "prune", input=b"n\n").out.startswith(
        "WARNING! This command removes all dangling images.\nAre you sure you want to continue? [y/N] "
    )
    assert engine("image", "prune", "-f", "--filter", "until=2000-01-01").out == ""
    assert engine("image", "prune", "-f").out == f"{child}\n"
    assert engine("image", "prune", "-f").out == ""
    assert engine("image", "prune", "-af").out == f"{base}\n"


def test_inspect_tells_errors_after_what_it_found(family: tuple[Engine, str, str]) -> None:
    engine, base, _ = family
    result = engine("image", "inspect", "base:1", "nosuch")
    assert result.code == 125
    assert [one["Id"] for one in result.json] == [base]
    assert result.err == "Error: nosuch: image not known\n"
    assert engine("image", "inspect", "nosuch").out == "[]\n"
