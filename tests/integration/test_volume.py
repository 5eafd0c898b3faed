"""`volume`, and volumes in containers: what is asserted is what the container and the files say."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.engine import Engine

HOST = ("run", "--rm", "--network", "none")


def data(rootless: Engine, name: str) -> Path:
    return rootless.data / "volumes" / name / "_data"


def load(rootless: Engine, path: Path, name: str, *more: images.Entry, **config: Any) -> str:
    """An image of busybox with more files and settings."""
    full = f"localhost/{name}:latest"
    archive = images.busybox_archive(path / f"{name}.tar", full, more=more, **config)
    rootless.ok("load", "--input", str(archive))
    return full


# the command


@pytest.mark.parametrize(
    ("args", "code", "out", "err"),
    [
        (("create", "a"), 0, "a\n", ""),
        (("create", "--ignore", "have"), 0, "have\n", ""),
        (("create", "have"), 125, "", "volume with name have already exists: volume already exists"),
        (("create", "a", "b"), 125, "", "accepts at most 1 arg"),
        (("create", "-d", "foo", "x"), 125, "", "required plugin missing"),
        (("create", "-o", "foo=bar", "x"), 125, "", "invalid mount option foo for driver 'local'"),
        (("create", "a/b"), 125, "", "names must match"),
        (("create", "-l", "=x", "x"), 125, "", 'invalid label format: "=x"'),
        (("exists", "have"), 0, "", ""),
        (("exists", "nope"), 1, "", ""),
        (("ls", "-q"), 0, "have\nlabelled\n", ""),
        (("ls", "-n"), 0, "local       have\nlocal       labelled\n", ""),
        (("ls",), 0, "DRIVER      VOLUME NAME\nlocal       have\nlocal       labelled\n", ""),
        (("ls", "--format", "{{.Name}} {{.Scope}} {{.Anonymous}}"), 0, "have local false\nlabelled local false\n", ""),
        (("ls", "--format", "table {{.Name}}\t{{.Labels}}"), 0, "VOLUME NAME  LABELS\nhave         map[]\nlabelled     map[a:b c:]\n", ""),
        (("ls", "-q", "-f", "name=^lab"), 0, "labelled\n", ""),
        (("ls", "-q", "-f", "name=av", "-f", "name=lab"), 0, "have\nlabelled\n", ""),
        (("ls", "-q", "-f", "label=a"), 0, "labelled\n", ""),
        (("ls", "-q", "-f", "label=a=x"), 0, "", ""),
        (("ls", "-q", "-f", "label!=a"), 0, "have\n", ""),
        (("ls", "-q", "-f", "since=have"), 0, "labelled\n", ""),
        (("ls", "-q", "-f", "until=1h"), 0, "", ""),
        (("ls", "-q", "-f", "dangling=true"), 0, "have\nlabelled\n", ""),
        (("ls", "-q", "-f", "dangling=false"), 0, "", ""),
        (("ls", "-q", "-f", "driver=other"), 0, "", ""),
        (("ls", "-f", "foo=bar"), 125, "", '"foo" is an invalid volume filter'),
        (("ls", "-f", "foo"), 125, "", "filter input must be in the form of filter=value: foo is invalid"),
        (("ls", "-f", "dangling=foo"), 125, "", 'not a valid value for the "dangling" filter'),
        (("inspect", "--format", "{{.Name}} {{.Driver}} {{.Labels}}", "labelled"), 0, "labelled local map[a:b c:]\n", ""),
        (("inspect", "nope"), 125, "[]\n", "no such volume nope"),
        (("inspect",), 125, "", "provide one or more volume names or use --all"),
        (("rm", "nope"), 1, "", 'no volume with name "nope" found: no such volume'),
        (("rm", "-f", "nope"), 0, "", ""),
        (("rm", "have", "nope"), 1, "have\n", "no such volume"),
        (("rm", "lab"), 0, "labelled\n", ""),
        (("rm",), 125, "", "choose either one or more volumes or all"),
        (("rm", "-a", "x"), 125, "", "choose either one or more volumes or all"),
        (("rm", "-a"), 0, "have\nlabelled\n", ""),
        (("prune", "-f"), 0, "have\nlabelled\n", ""),
        (("prune", "-f", "--filter", "label=a"), 0, "labelled\n", ""),
        (("prune", "-f", "--filter", "name=have"), 0, "have\n", ""),
        (("prune", "-f", "--filter", "driver=other"), 0, "", ""),
        (("prune", "-f", "--filter", "dangling=false"), 0, "", ""),
        (("prune", "-f", "--filter", "all=true"), 125, "", '"all" is an invalid volume filter'),
        (("export", "nope"), 125, "", "no such volume nope"),
        (("import", "nope"), 125, "", "no such volume nope"),
        (("import", "have", "/nothere"), 125, "", "open /nothere: no such file or directory"),
        (("import", "have", "/etc/passwd"), 125, "", "tar"),
        (("reload",), 0, "", ""),
        (("unmount", "have"), 0, "have\n", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_commands(rootless: Engine, args: tuple[str, ...], code: int, out: str, err: str) -> None:
    rootless.ok("volume", "create", "have")
    rootless.ok("volume", "create", "-l", "a=b", "--label", "c", "labelled")
    result = rootless("volume", *args)
    assert (result.code, result.out) == (code, out), result
    assert err in result.err and bool(err) == bool(result.err)


def test_inspect_has_podmans_fields(rootless: Engine) -> None:
    rootless.ok("volume", "create", "-o", "type=tmpfs", "-o", "o=size=1m,uid=5", "t")
    (found,) = rootless("volume", "inspect", "t").json
    assert found.pop("CreatedAt").startswith("20")
    assert found == {
        "Name": "t",
        "Driver": "local",
        "Mountpoint": str(data(rootless, "t")),
        "Labels": {},
        "Scope": "local",
        "Options": {"SIZE": "1m", "UID": "5", "o": "size=1m,uid=5", "type": "tmpfs"},
        "UID": 5,
        "MountCount": 0,
        "NeedsCopyUp": True,
        "LockNumber": 0,
    }


def test_prune_asks(rootless: Engine) -> None:
    rootless.ok("volume", "create", "a")
    result = rootless("volume", "prune", input="n\n")
    assert result.code == 0 and "\na\nAre you sure you want to continue? [y/N] " in result.out
    assert rootless("volume", "exists", "a").code == 0
    rootless.ok("volume", "prune", input="y\n")
    assert rootless("volume", "exists", "a").code == 1
    assert "No dangling volumes found" in rootless.ok("volume", "prune")


def test_mount_prints_the_folder(rootless: Engine) -> None:
    rootless.ok("volume", "create", "a")
    assert rootless.ok("volume", "mount", "a") == str(data(rootless, "a"))
    rootless.ok("volume", "create", "-o", "type=tmpfs", "t")
    assert "is a tmpfs" in rootless.fails("volume", "mount", "t")


# in containers


def test_content_stays(rootless: Engine) -> None:
    rootless.ok(*HOST, "-v", "v:/data", "host", "sh", "-c", "echo hi > /data/f")
    assert rootless.ok(*HOST, "-v", "v:/data:ro", "host", "cat", "/data/f") == "hi"
    assert (data(rootless, "v") / "f").read_text() == "hi\n"
    assert rootless(*HOST, "-v", "v:/data:ro", "host", "touch", "/data/g").code == 1


def test_options_reach_the_mount(rootless: Engine) -> None:
    script = "grep ' /data ' /proc/self/mounts"
    words = (
        rootless.ok(*HOST, "-v", "v:/data:noexec", "host", "sh", "-c", script).split()[3].split(",")
    )
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(words)


def test_anonymous_volume_goes_with_its_container(rootless: Engine) -> None:
    identity = rootless.ok(
        "create", "--network", "none", "-v", "/anon", "-v", "named:/n", "host", "true"
    )
    names = rootless.ok("volume", "ls", "--format", "{{.Name}} {{.Anonymous}}").splitlines()
    assert sorted(len(name.split()[0]) for name in names) == [5, 64]
    assert sorted(name.split()[1] for name in names) == ["false", "true"]
    rootless.ok("rm", "-v", identity)
    assert rootless.ok("volume", "ls", "-q") == "named"


def test_anonymous_volume_of_rm(rootless: Engine) -> None:
    rootless.ok(*HOST, "-v", "/anon", "-v", "named:/n", "host", "true")
    assert rootless.ok("volume", "ls", "-q") == "named"


def test_anonymous_volume_stays_without_v(rootless: Engine) -> None:
    identity = rootless.ok("create", "--network", "none", "-v", "/anon", "host", "true")
    rootless.ok("rm", identity)
    assert len(rootless.ok("volume", "ls", "-q")) == 64


def test_volume_in_use(rootless: Engine) -> None:
    identity = rootless.ok("create", "--network", "none", "-v", "v:/v", "host", "true")
    error = rootless.fails("volume", "rm", "v", code=2)
    assert f"volume v is being used by the following container(s): {identity}" in error
    assert rootless.ok("volume", "ls", "-q", "-f", "dangling=false") == "v"
    assert rootless.ok("volume", "prune", "-f") == ""
    assert rootless.ok("volume", "rm", "-f", "v") == "v"
    assert rootless("container", "inspect", identity).code == 125


def test_container_that_cannot_be_made_leaves_no_volume(rootless: Engine) -> None:
    rootless.ok("create", "--name", "c", "host", "true")
    rootless.fails("create", "--name", "c", "-v", "new:/n", "-v", "/anon", "host", "true")
    assert rootless.ok("volume", "ls", "-q") == ""


def test_fifty_containers_make_one_volume(rootless: Engine) -> None:
    runs = [
        rootless.popen("create", "--network", "none", "-v", "v:/v", "host", "true", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(12)
    ]  # fmt: skip
    for run in runs:
        out, err = run.communicate(timeout=60)
        assert (run.returncode, err) == (0, b"") and len(out) == 65
    assert rootless.ok("volume", "ls", "-q") == "v"


# first use


def test_copy_up(rootless: Engine, tmp_path: Path) -> None:
    """An empty volume gets content, owner and mode of its place in the image, once."""
    image = load(
        rootless, tmp_path, "seeded",
        images.folder("srv", 0o750, 1000, 50), images.file("srv/f", "seed", 0o640, 1000, 50),
        images.folder("srv/d", 0o700), images.symlink("srv/l", "f"),
        Volumes={"/srv": {}},
    )  # fmt: skip
    show = ("sh", "-c", "stat -c '%n %u:%g %a %F' /srv /srv/*; cat /srv/l")
    expected = [
        "/srv 1000:50 750 directory",
        "/srv/d 0:0 700 directory",
        "/srv/f 1000:50 640 regular file",
        "/srv/l 0:0 777 symbolic link",
        "seed",
    ]
    assert rootless.ok(*HOST, image, *show).splitlines() == expected
    assert rootless.ok(*HOST, "-v", "v:/srv", image, *show).splitlines() == expected
    rootless.ok(*HOST, "-v", "v:/srv", image, "sh", "-c", "rm -r /srv/*; chmod 711 /srv")
    assert (
        rootless.ok(*HOST, "-v", "v:/srv", image, "sh", "-c", "ls /srv; stat -c %a /srv") == "711"
    )


def test_copy_up_is_not_wanted(rootless: Engine, tmp_path: Path) -> None:
    image = load(rootless, tmp_path, "seeded2", images.folder("srv"), images.file("srv/f", "seed"))
    assert rootless.ok(*HOST, "-v", "v:/srv:nocopy", image, "ls", "/srv") == ""


def test_case_33_populated_volume_is_never_overwritten(rootless: Engine, tmp_path: Path) -> None:
    image = load(rootless, tmp_path, "seeded3", images.folder("srv"), images.file("srv/f", "seed"))
    rootless.ok("volume", "create", "v")
    (data(rootless, "v") / "f").write_text("mine")
    assert rootless.ok(*HOST, "-v", "v:/srv", image, "cat", "/srv/f") == "mine"


def test_case_33_volume_path_that_is_a_link(rootless: Engine, tmp_path: Path) -> None:
    """A link in the place of a VOLUME is followed inside the image only."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("host secret")
    image = load(
        rootless, tmp_path, "linked",
        images.symlink("data", str(secret)), images.folder(f"{secret}".lstrip("/")),
        images.symlink("up", "../../../../etc"), Volumes={"/data": {}, "/up": {}},
    )  # fmt: skip
    out = rootless.ok(*HOST, image, "sh", "-c", f"ls {secret}; cat /etc/passwd; ls /data")
    assert "key" not in out and "app:x:1000" in out and "/bin/bash" not in out


def test_new_place_belongs_to_the_user(rootless: Engine, tmp_path: Path) -> None:
    image = load(rootless, tmp_path, "plain")
    show = ("stat", "-c", "%u:%g", "/nowhere")
    assert rootless.ok(*HOST, "-u", "1000:50", "-v", "v:/nowhere", image, *show) == "1000:50"
    assert rootless.ok(*HOST, "-v", "v:/nowhere", image, *show) == "1000:50"


@pytest.mark.needs("subids")
@pytest.mark.parametrize("mode", ["keep-id", "auto", "nomap"])
def test_new_volume_under_another_id_map(rootless: Engine, tmp_path: Path, mode: str) -> None:
    image = load(
        rootless,
        tmp_path,
        f"map-{mode}",
        images.folder("srv", 0o755, 5, 6),
        images.file("srv/f", "seed"),
    )
    script = "stat -c %u:%g /srv /new; cat /srv/f; touch /srv/g"
    args = (
        *HOST,
        "--userns",
        mode,
        "-v",
        "a:/srv",
        "-v",
        "b:/new",
        "--user",
        "0",
        image,
        "sh",
        "-c",
        script,
    )
    assert rootless.ok(*args).split() == ["5:6", "0:0", "seed"]
    assert rootless.ok(*args).split() == ["5:6", "0:0", "seed"]


# U, O, subpath, volumes-from, driver options


def test_u_gives_all_to_the_user(rootless: Engine, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/f").touch()
    (source / "l").symlink_to("/etc/passwd")
    show = ("sh", "-c", "stat -c '%u:%g' /y /y/d /y/d/f /y/l")
    args = ("-u", "1:2", "-v", f"{source}:/y:U,ro", "host")
    assert rootless.ok(*HOST, *args, *show).split() == ["1:2"] * 4
    rootless.ok(
        *HOST, "-v", f"{source}:/y:U", "host", "true"
    )  # back to this user, for the test's own clean-up
    assert os.stat(source / "d/f").st_uid == os.getuid()


def test_case_09_u_follows_no_link(rootless: Engine, tmp_path: Path) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.mkdir()
    outside.mkdir()
    (outside / "f").touch()
    (source / "l").symlink_to(outside)
    rootless.ok(*HOST, "-u", "1:1", "-v", f"{source}:/y:U", "host", "true")
    assert os.stat(outside / "f").st_uid == os.stat(outside).st_uid == os.getuid()
    rootless.ok(*HOST, "-v", f"{source}:/y:U", "host", "true")


def test_overlay_leaves_the_source_alone(rootless: Engine, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir(mode=0o750)
    (source / "f").write_text("old\n")
    script = "cat /y/f; echo new > /y/f; touch /y/g; stat -c %a /y"
    assert rootless.ok(*HOST, "-v", f"{source}:/y:O", "host", "sh", "-c", script).split() == [
        "old",
        "750",
    ]
    assert (source / "f").read_text() == "old\n" and os.listdir(source) == ["f"]


def test_overlay_of_a_volume(rootless: Engine) -> None:
    rootless.ok("volume", "create", "v")
    rootless.ok(*HOST, "-v", "v:/y:O", "host", "touch", "/y/f")
    assert os.listdir(data(rootless, "v")) == []


def test_subpath(rootless: Engine) -> None:
    rootless.ok("volume", "create", "v")
    (data(rootless, "v") / "a/b").mkdir(parents=True)
    (data(rootless, "v") / "a/b/f").write_text("x")
    mount = "type=volume,src=v,dst=/y,subpath="
    assert rootless.ok(*HOST, "--mount", mount + "a/b", "host", "ls", "/y") == "f"
    assert "no such file or directory" in rootless.fails(
        *HOST, "--mount", mount + "no", "host", "true"
    )


def test_case_08_subpath_that_leads_out(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("host secret")
    rootless.ok("volume", "create", "v")
    (data(rootless, "v") / "out").symlink_to(tmp_path)
    (data(rootless, "v") / "up").symlink_to("../../../..")
    for subpath in ("out", "up/etc", "../../../../../../etc"):
        result = rootless(
            *HOST, "--mount", f"type=volume,src=v,dst=/y,subpath={subpath}", "host", "ls", "/y"
        )
        assert "key" not in result.out and "passwd" not in result.out


def test_volumes_from(rootless: Engine) -> None:
    rootless.ok(
        "create",
        "--name",
        "a",
        "--network",
        "none",
        "-v",
        "v:/v",
        "-v",
        "/anon",
        "--tmpfs",
        "/t",
        "host",
        "true",
    )
    script = "touch /v/f; ls -d /v /anon /t"
    result = rootless(*HOST, "--volumes-from", "a", "host", "sh", "-c", script)
    assert result.out.split() == ["/anon", "/v"]
    assert (data(rootless, "v") / "f").exists()
    assert len(rootless.ok("volume", "ls", "-q").split()) == 2, (
        "the other one's anonymous volume went"
    )
    assert rootless(*HOST, "--volumes-from", "a:ro", "host", "touch", "/v/g").code == 1
    assert "no container with name" in rootless.fails(
        *HOST, "--volumes-from", "nope", "host", "true"
    )


@pytest.mark.needs("subids")
def test_a_folder_below_one_of_the_containers_ids(rootless: Engine, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "theirs/below").mkdir(parents=True)
    (tmp_path / "theirs/below/file").write_text("text")
    own = f"chmod 700 {tmp_path}/theirs; chown -R 5:5 {tmp_path}/theirs"
    rootless.ok("unshare", "sh", "-c", own)
    command = ("run", "--rm", "--network", "none", "-v", f"{tmp_path}/theirs/below:/x", "host")
    assert rootless.ok(*command, "cat", "/x/file") == "text"
    rootless.ok("unshare", "chown", "-R", "0:0", f"{tmp_path}/theirs")
    refused = rootless.fails("run", "--rm", "-v", "/root/below:/x", "host", "true")
    assert refused == "Error: statfs /root/below: permission denied\n"


def test_bind_volume(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    rootless.ok(
        "volume", "create", "-o", "type=none", "-o", f"device={tmp_path}", "-o", "o=bind,ro", "v"
    )
    assert rootless.ok(*HOST, "-v", "v:/y", "host", "cat", "/y/f") == "x"
    assert rootless(*HOST, "-v", "v:/y", "host", "touch", "/y/g").code == 1
    rootless.ok("volume", "rm", "v")
    assert (tmp_path / "f").exists()


def test_tmpfs_volume(rootless: Engine) -> None:
    rootless.ok("volume", "create", "-o", "type=tmpfs", "-o", "o=size=1m,mode=0711", "v")
    script = "grep ' /y ' /proc/self/mounts; stat -c %a /y"
    out = rootless.ok(*HOST, "-v", "v:/y", "host", "sh", "-c", script)
    assert out.startswith("tmpfs /y tmpfs") and "size=1024k" in out and out.endswith("711")
    rootless.ok(
        "run", "-d", "--name", "a", "--network", "none", "-v", "v:/y", "host", "sleep", "1000"
    )
    assert "cannot be shared" in rootless.fails(*HOST, "-v", "v:/y", "host", "true")


def test_volume_options_of_a_mount(rootless: Engine) -> None:
    mount = "type=volume,src=v,dst=/y,volume-opt=type=tmpfs"
    assert "tmpfs" in rootless.ok(
        *HOST, "--mount", mount, "host", "grep", " /y ", "/proc/self/mounts"
    )
    assert rootless("volume", "inspect", "v").json[0]["Options"] == {"type": "tmpfs"}


def test_image_mount(rootless: Engine, tmp_path: Path) -> None:
    image = load(
        rootless, tmp_path, "other", images.folder("srv/d"), images.file("srv/d/f", "seed")
    )
    mount = f"type=image,src={image},dst=/im"
    assert rootless.ok(*HOST, "--mount", mount, "host", "cat", "/im/srv/d/f") == "seed"
    assert rootless(*HOST, "--mount", mount, "host", "touch", "/im/x").code == 1
    assert (
        rootless.ok(
            *HOST, "--mount", mount + ",rw=true", "host", "sh", "-c", "touch /im/x; ls /im/x"
        )
        == "/im/x"
    )
    assert rootless.ok(*HOST, "--mount", mount + ",subpath=/srv/d", "host", "ls", "/im") == "f"


# archives


def test_export_and_import(rootless: Engine, tmp_path: Path) -> None:
    script = "mkdir /v/d; echo x > /v/d/f; chown 5:6 /v/d/f; ln -s d/f /v/l; ln /v/d/f /v/h; chmod 4755 /v/d/f; touch /v/.wh.x"
    rootless.ok(*HOST, "-v", "a:/v", "host", "sh", "-c", script)
    archive = tmp_path / "a.tar"
    rootless.ok("volume", "export", "a", "--output", str(archive))
    with tarfile.open(archive) as tar:
        members = {m.name.removeprefix("./"): m for m in tar.getmembers()}
    assert (members["d/f"].uid, members["d/f"].gid, members["d/f"].mode) == (5, 6, 0o4755)
    assert members["h"].islnk() or members["d/f"].islnk()
    raw = rootless("volume", "export", "a")
    assert raw.raw_out == archive.read_bytes()
    rootless.ok("volume", "create", "b")
    rootless.ok("volume", "import", "b", str(archive))
    show = "cd /v; find . | sort; stat -c '%u:%g %a %h' d/f; readlink l"
    first = rootless.ok(*HOST, "-v", "a:/v", "host", "sh", "-c", show)
    assert rootless.ok(*HOST, "-v", "b:/v", "host", "sh", "-c", show) == first
    assert "./.wh.x" in first
    rootless.ok("volume", "create", "c")
    rootless.ok("volume", "import", "c", input=raw.raw_out)
    assert (data(rootless, "c") / "d").is_dir()


@pytest.mark.parametrize("name", ["../evil", "/evil", "d/../../evil"])
def test_case_31_import_stays_inside(rootless: Engine, name: str) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info, content in (
            images.symlink("out", "../.."),
            images.file("out/evil2", "x"),
            images.file(name, "x"),
        ):
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    rootless.ok("volume", "create", "v")
    rootless("volume", "import", "v", input=stream.getvalue())
    volumes = rootless.data / "volumes"
    assert not (volumes / "v/evil").exists() and not (volumes / "evil").exists()
    assert not (volumes / "evil2").exists() and not Path("/evil").exists()


def test_case_14_export_follows_no_link(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("host secret")
    rootless.ok("volume", "create", "v")
    (data(rootless, "v") / "f").symlink_to(tmp_path / "key")
    (data(rootless, "v") / "d").symlink_to(tmp_path)
    result = rootless("volume", "export", "v")
    assert result.code == 0 and b"host secret" not in result.raw_out


def test_files_of_subordinate_ids_are_removed(rootless: Engine) -> None:
    rootless.ok(
        *HOST,
        "-v",
        "v:/v",
        "host",
        "sh",
        "-c",
        "mkdir /v/d; touch /v/d/f; chown -R 5:5 /v/d; chmod 0 /v/d",
    )
    rootless.ok("volume", "rm", "v")
    assert not data(rootless, "v").parent.exists()
