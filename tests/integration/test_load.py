"""load, save and import: with archives of skopeo and podman, files and pipes, and back."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import os
import signal
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.images import file, folder, layer

pytestmark = pytest.mark.needs("userns", "subids")


def test_loads_from_a_file_and_from_a_pipe(fresh: Engine, busybox_archive: Path) -> None:
    assert fresh.ok("load", "--input", str(busybox_archive)) == (
        "Loaded image: localhost/busybox:latest"
    )
    data = gzip.compress(busybox_archive.read_bytes(), 1)
    assert fresh("load", input=data).out == "Loaded image: localhost/busybox:latest\n"
    assert fresh("image", "exists", "busybox").code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read it: no such file or directory"),
        (b"no archive\n" * 200, "tar"),
        (b"", "neither a docker archive nor an OCI one"),
    ],
)
def test_what_is_no_archive(
    fresh: Engine, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    result = fresh("load", "-i", str(path))
    assert (result.code, result.out) == (125, "")
    assert message in result.err
    assert result.err.count("\n") <= 2


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_saves_and_loads_again(
    rootless: Engine, fresh: Engine, busybox: str, tmp_path: Path, form: str
) -> None:
    path = str(tmp_path / "out")
    rootless.ok("save", "--format", form, "-o", path, busybox)
    identity = rootless.ok("image", "inspect", "--format", "{{.Id}}", busybox)
    name = f"sha256:{identity}" if form == "docker-dir" else busybox
    assert fresh.ok("load", "-i", path) == f"Loaded image: {name}"
    assert fresh.ok("image", "inspect", "--format", "{{.Id}}", identity) == identity


def test_several_images_in_one_archive(rootless: Engine, busybox: str, tmp_path: Path) -> None:
    rootless.ok("tag", busybox, "localhost/second:1")
    rootless.ok("import", "-c", "CMD=/x", str(one_file(tmp_path)), "localhost/third:1")
    path = tmp_path / "many.tar"
    rootless.ok("save", "-m", "-o", str(path), busybox, "second:1", "third:1")
    with tarfile.open(path) as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        listed = json.load(member)
    assert [one["RepoTags"] for one in listed] == [
        [busybox, "localhost/second:1"],
        ["localhost/third:1"],
    ]
    rootless.ok("rmi", "second:1", "third:1")


def one_file(folder: Path) -> Path:
    path = folder / "root.tar"
    path.write_bytes(layer([file("hello", b"hello\n", uid=5)]))
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["save", "nosuch"], "nosuch: image not known"),
        (["save", "--format", "foo", "x"], "format value must be one of"),
        (["save", "--compress", "x"], "--compress can only be set when --format is 'docker-dir'"),
        (["save"], "need at least 1 argument"),
        (["save", "--format", "oci-dir", "BUSYBOX"], "requires an output directory"),
    ],
)
def test_mistakes_of_save(rootless: Engine, busybox: str, words: list[str], message: str) -> None:
    result = rootless(*(busybox if word == "BUSYBOX" else word for word in words))
    assert result.code == 125
    assert message in result.err


def test_an_archive_that_is_there_is_not_written_over(
    rootless: Engine, busybox: str, tmp_path: Path
) -> None:
    path = tmp_path / "there"
    path.write_text("mine")
    result = rootless("save", "-o", str(path), busybox)
    assert (result.code, path.read_text()) == (125, "mine")
    assert "doesn't support modifying existing images" in result.err


def test_import_from_file_pipe_and_web(fresh: Engine, tmp_path: Path) -> None:
    path = one_file(tmp_path)
    words = ["-c", 'CMD ["/hello"]', "-c", "ENV A=1", "-c", "LABEL x=y", "-m", "note"]
    identity = fresh.ok("import", *words, str(path), "local/one")
    assert identity.startswith("sha256:")
    [found] = fresh("image", "inspect", "local/one").json
    assert found["Config"] == {"Cmd": ["/hello"], "Env": ["A=1"], "Labels": {"x": "y"}}
    assert found["Comment"] == "note"
    assert found["RootFS"]["Layers"] == [images.digest(path.read_bytes())]
    assert found["RepoTags"] == ["localhost/local/one:latest"]
    fresh.ok("import", "-", "two:1", input=gzip.compress(path.read_bytes()))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                self.end_headers()
                return
            data = path.read_bytes()
            self.send_response(200 if self.path == "/root.tar" else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        fresh.ok("import", f"{base}/root.tar", "three:1")
        assert "404" in fresh("import", f"{base}/other").err
        # A server may send us to another server, and nowhere else.
        assert fresh("import", f"{base}/moved").code == 125
        server.shutdown()
    layers = {
        one["RootFS"]["Layers"][0] for one in fresh("image", "inspect", "two:1", "three:1").json
    }
    assert layers == {images.digest(path.read_bytes())}


def begun_import(fresh: Engine, data: bytes) -> subprocess.Popen[bytes]:
    """An import at work, which waits for the rest of its archive."""
    process: subprocess.Popen[bytes] = fresh.popen(
        "import", "-q", "-", "one:1", stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(data[:512])
    process.stdin.flush()
    for _ in range(3000):
        if list(fresh.data.glob("images/tmp/layer-new-*/recipe")):
            return process
        threading.Event().wait(0.01)
    pytest.fail("nothing began")


def test_an_interrupted_import_leaves_nothing(fresh: Engine, tmp_path: Path) -> None:
    """Though its archive comes from a pipe that nobody fills."""
    with begun_import(fresh, one_file(tmp_path).read_bytes()) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert not list((fresh.data / "images/tmp").iterdir())


def test_a_helper_that_is_killed(fresh: Engine, tmp_path: Path) -> None:
    """As the kernel does it to the largest where memory has run out."""
    data = one_file(tmp_path).read_bytes()
    process = begun_import(fresh, data)
    store = fresh.data / "images"
    for child in descendants(process.pid):
        os.kill(child, signal.SIGKILL)
    said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 125
    assert said == "Error: standard input: the helper in the user namespace died at its work\n"
    assert fresh.ok("images", "-q") == ""
    fresh.ok("import", "-q", "-", "two:1", input=data)
    assert not list((store / "tmp").iterdir())
    assert len(list((store / "layers").iterdir())) == 1


def descendants(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-c", "FOO bar", "x"], 'invalid change "FOO bar" - invalid instruction FOO'),
        (["-c", "CMD", "x"], "must be formatted as KEY VALUE"),
        (["/nonexistent"], "no such file or directory"),
        (["/etc/passwd", "x"], "^Error: /etc/passwd: no tar archive"),
        (
            ["http://127.0.0.1:9/x"],
            "^Error: http://127.0.0.1:9/x: cannot fetch it: Connection refused$",
        ),
        ([], "accepts|requires|arg"),
    ],
)
def test_mistakes_of_import(fresh: Engine, words: list[str], message: str) -> None:
    import re

    result = fresh("import", *words)
    assert result.code == 125
    assert re.search(message, result.err.strip())


@pytest.mark.peer
@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_skopeos_archives_load_and_ours_are_read_by_it(
    fresh: Engine, tmp_path: Path, transport: str
) -> None:
    data = layer([folder("d"), file("d/f", b"x" * 1000, uid=7)])
    layout = images.oci_layout(tmp_path / "layout", [data], "latest")
    path = tmp_path / "copied"
    skopeo = ["skopeo", "--insecure-policy", "copy", "-q"]
    tag = ":localhost/peer:1"
    subprocess.run([*skopeo, f"oci:{layout}:latest", f"{transport}:{path}{tag}"], check=True)
    assert "localhost/peer:1" in fresh.ok("load", "-i", str(path))
    [found] = fresh("image", "inspect", "localhost/peer:1").json
    assert found["RootFS"]["Layers"] == [images.digest(data)]
    back = tmp_path / "back"
    fresh.ok("save", "--format", transport, "-o", str(back), "peer:1")
    raw = subprocess.run(
        ["skopeo", "inspect", "--config", "--raw", f"{transport}:{back}{tag}"],
        check=True,
        capture_output=True,
    ).stdout
    assert hashlib.sha256(raw).hexdigest() == found["Id"]


@pytest.mark.peer
@pytest.mark.needs("podman")
def test_podman_loads_what_we_save_with_the_same_id(
    rootless: Engine, busybox: str, tmp_path: Path
) -> None:
    path = tmp_path / "saved.tar"
    rootless.ok("save", "-o", str(path), busybox)
    identity = rootless.ok("image", "inspect", "--format", "{{.Id}}", busybox)
    # Its paths must be short.
    store = ["podman", "--root", f"{rootless.folder}/p", "--runroot", f"{rootless.folder}/pr"]
    store += ["--storage-driver", "vfs"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([*store, "load", "-q", "-i", str(path)], check=True, env=environment)
    shown = subprocess.run(
        [*store, "images", "-q", "--no-trunc"],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert shown.stdout.strip() == f"sha256:{identity}"
    subprocess.run([*store, "system", "reset", "-f"], check=True, env=environment)
