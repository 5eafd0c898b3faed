"""rootless-oci: where and by whom it is called."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import REPOSITORY, Result
from tests.support.oci import Runtime

pytestmark = pytest.mark.needs("userns", "busybox")


@pytest.fixture(scope="module")
def _oci() -> Iterator[Runtime]:
    runtime = Runtime()
    yield runtime
    runtime.close()


@pytest.fixture
def oci(_oci: Runtime) -> Iterator[Runtime]:
    yield _oci
    _oci.clear()


UNSHARE = ("unshare", "--map-root-user", "--map-auto", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")  # fmt: skip


def as_root_of_a_namespace(oci: Runtime, script: str) -> Result:
    """Run shell words as root of a user namespace with all of the user's ids; $OCI is the runtime."""
    process = subprocess.run(
        [*UNSHARE, "sh", "-ec", script],
        env={**oci.env, "OCI": " ".join(oci.program)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Result((script,), process.returncode, process.stdout, process.stderr)


@pytest.mark.needs("subids")
def test_as_root_of_a_user_namespace(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "id -u; cat /proc/self/uid_map; stat -c %u /proc; exit 3")
    result = as_root_of_a_namespace(oci, f"$OCI run --bundle {bundle} one || echo $?")
    assert result.lines[0] == "0", result
    assert result.lines[1].split()[:2] == ["0", str(os.getuid())]
    assert result.lines[-1] == "3"


@pytest.mark.needs("subids")
@pytest.mark.parametrize("network", [True, False])
@pytest.mark.parametrize("cgroup", [True, False])
def test_mounts_as_root_of_a_user_namespace(oci: Runtime, network: bool, cgroup: bool) -> None:
    def change(spec: dict[str, Any]) -> None:
        kinds = {"pid", "ipc", "uts", "mount"}
        kinds |= ({"network"} if network else set()) | ({"cgroup"} if cgroup else set())
        spec["linux"]["namespaces"] = [{"type": kind} for kind in sorted(kinds)]
        options = ["nosuid", "noexec", "nodev", "relatime", "ro"]
        spec["mounts"].append(
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}
        )  # fmt: skip

    bundle = oci.bundle("cat", "/proc/self/mountinfo", change=change)
    result = as_root_of_a_namespace(oci, f"$OCI run --bundle {bundle} one")
    assert result.code == 0, result
    assert next(line for line in result.lines if " /sys " in line).split()[5].startswith("ro")
    below = [line.split() for line in result.lines if " /sys/fs/cgroup " in line]
    assert below[-1][5].startswith("ro")


@pytest.mark.needs("subids")
def test_a_life_as_root_of_a_user_namespace(oci: Runtime) -> None:
    bundle = oci.bundle("sleep", "1000")
    script = f"""
        $OCI create --bundle {bundle} one >/dev/null 2>&1 </dev/null
        $OCI start one
        $OCI exec one id -u
        $OCI exec --user 1000:1000 one id -u
        $OCI pause one; $OCI state one | grep status; $OCI resume one
        $OCI kill one KILL
        while $OCI state one | grep -q running; do :; done
        $OCI delete one
        $OCI list -q | wc -l
    """
    result = as_root_of_a_namespace(oci, script)
    assert result.code == 0, result
    assert [line.strip() for line in result.lines] == ["0", "1000", '"status": "paused",', "0"]


@pytest.mark.needs("subids")
def test_a_user_namespace_inside_one(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"].append({"type": "user"})
        for key in ("uidMappings", "gidMappings"):
            spec["linux"][key] = [{"containerID": 0, "hostID": 100, "size": 1000}]

    bundle = oci.bundle("cat", "/proc/self/uid_map", change=change)
    for folder in (oci.rootfs, bundle):
        os.chmod(folder, 0o755)
    os.chmod(oci.folder, 0o711)
    result = as_root_of_a_namespace(oci, f"$OCI run --bundle {bundle} one")
    assert result.out.split() == ["0", "100", "1000"], result


def test_a_bundle_on_a_read_only_file_system(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo here; touch /x || echo not writable", own=True)
    script = f"mount --bind -o ro {bundle} {bundle}; $OCI run --bundle {bundle} one"
    result = as_root_of_a_namespace(oci, script)
    assert result.lines == ["here", "not writable"], result


def test_many_containers_of_one_bundle_at_once(oci: Runtime) -> None:
    bundle = str(oci.bundle("sh", "-c", "hostname $0; exit 5"))
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda n: oci("run", "--bundle", bundle, f"m{n}"), range(18)))
    assert [result for result in results if result.code != 5] == []


def test_one_id_taken_by_many_at_once(oci: Runtime) -> None:
    bundle = str(oci.bundle("sleep", "1000"))

    def create(_: int) -> int:
        words = [*oci.program, "run", "--detach", "--bundle", bundle, "one"]
        streams = {"stdin": -3, "stdout": -3, "stderr": -3}
        return subprocess.run(words, env=oci.env, timeout=60, check=False, **streams).returncode  # type: ignore[call-overload, no-any-return]

    with ThreadPoolExecutor(6) as pool:
        codes = sorted(pool.map(create, range(6)))
    assert codes == [0, 1, 1, 1, 1, 1]
    assert oci.state("one")["status"] == "running"


def test_without_a_run_time_folder(oci: Runtime) -> None:
    env = {key: value for key, value in oci.env.items() if key != "XDG_RUNTIME_DIR"}
    bundle = oci.bundle("echo", "works")
    result = subprocess.run([*oci.plain, "run", "--bundle", str(bundle), f"lonely{os.getpid()}"], env=env, capture_output=True, text=True, check=False)  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "works\n"), result.stderr


def test_with_standard_streams_closed(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "ls /proc/self/fd > /tmp/streams", own=True)
    words = [*oci.program, "run", "--bundle", str(bundle), "one"]
    shell = ["sh", "-c", 'exec 0<&- 1>&- 2>&-; exec "$@"', "sh", *words]
    assert subprocess.run(shell, env=oci.env, timeout=60, check=False).returncode == 0
    assert (bundle / "rootfs/tmp/streams").read_text().split()[:3] == ["0", "1", "2"]


def test_a_root_with_little_permission_around_it(oci: Runtime) -> None:
    """Opened before the ids change, so that none of the folders above needs to be open to the container's ids."""
    outer = oci.folder / "closed"
    outer.mkdir(mode=0o700)
    bundle = oci.bundle("id", "-u")
    os.rename(bundle, outer / "bundle")

    def run(*words: str) -> Result:
        return oci("run", "--bundle", str(outer / "bundle"), *words)

    assert run("one").out == "0\n"


def test_the_launcher_in_a_checkout_and_through_a_link(tmp_path: Path) -> None:
    link = tmp_path / "crun"
    link.symlink_to(REPOSITORY / "bin/rootless-oci")
    for path in (REPOSITORY / "bin/rootless-oci", link):
        result = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        assert result.stdout.startswith("rootless-oci version ")


def test_a_create_that_is_killed_leaves_what_delete_removes(oci: Runtime) -> None:
    (oci.root / "half").mkdir(parents=True)
    (oci.root / "half/config.json").write_text("{}")
    assert oci("state", "half").code == 1
    assert oci("delete", "half").code == 1
    assert oci("delete", "--force", "half").code == 0
    assert not (oci.root / "half").exists()
    name = oci.start()
    (oci.root / name / "config.json").unlink()
    assert oci("delete", "--force", name).code == 0
    assert not (oci.root / name).exists()
