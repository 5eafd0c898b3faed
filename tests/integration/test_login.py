"""login and logout: credentials are shown to the registry, kept in the right file, and forgotten."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.registry import PASSWORD, USER, DockerRegistry

pytestmark = pytest.mark.needs("docker-registry", "htpasswd")
PLAIN = "--tls-verify=false"


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry(auth=True) as one:
        yield one


def login(engine: Engine, host: str, *options: str, password: str = PASSWORD) -> str:
    return engine.ok("login", PLAIN, "-u", USER, "--password-stdin", *options, host, input=password)


def test_login_and_logout(fresh: Engine, server: DockerRegistry) -> None:
    assert "not logged into" in fresh.fails("login", "--get-login", server.host)
    assert "not logged into" in fresh.fails("logout", server.host)
    assert login(fresh, server.host) == "Login Succeeded!"
    path = fresh.run_home / "containers/auth.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(json.loads(path.read_text())["auths"]) == [server.host]
    assert fresh.ok("login", "--get-login", server.host) == USER
    again = fresh.ok("login", PLAIN, server.host)
    assert again == f"Existing credentials are valid. Already logged in to {server.host}"
    assert fresh.ok("search", PLAIN, f"{server.host}/") == ""
    assert fresh.ok("logout", server.host) == f"Removed login credentials for {server.host}"
    assert "not logged into" in fresh.fails("logout", server.host)
    assert "authentication required" in fresh.fails("search", PLAIN, f"{server.host}/")


def test_wrong_password_is_not_kept(fresh: Engine, server: DockerRegistry) -> None:
    error = fresh.fails("login", PLAIN, "-u", USER, "--password-stdin", server.host, input="wrong")
    assert f"logging into '{server.host}': invalid username/password" in error
    assert "wrong" not in error
    assert not (fresh.run_home / "containers/auth.json").exists()


def test_files(fresh: Engine, server: DockerRegistry, tmp_path: Path) -> None:
    mine = tmp_path / "auth.json"
    assert (
        login(fresh, server.host, f"--authfile={mine}", "-v") == f"Used:  {mine}\nLogin Succeeded!"
    )
    assert "not logged into" in fresh.fails("login", "--get-login", server.host)
    assert fresh.ok("login", "--get-login", f"--authfile={mine}", server.host) == USER
    env = {"REGISTRY_AUTH_FILE": str(mine)}
    assert fresh.ok("login", "--get-login", server.host, env=env) == USER
    assert fresh.ok("search", PLAIN, f"--authfile={mine}", f"{server.host}/") == ""
    docker = tmp_path / "docker/config.json"
    login(fresh, server.host, f"--compat-auth-file={docker}")
    assert server.host in json.loads(docker.read_text())["auths"]
    fresh.ok("logout", "--all", f"--authfile={mine}")
    assert json.loads(mine.read_text())["auths"] == {}
    error = fresh.fails("search", PLAIN, "--authfile=/nowhere.json", f"{server.host}/")
    assert "credential file is not accessible" in error


def test_a_login_for_one_namespace(fresh: Engine, server: DockerRegistry) -> None:
    login(fresh, f"{server.host}/team")
    assert fresh.ok("login", "--get-login", f"{server.host}/team/app") == USER
    assert "not logged into" in fresh.fails("login", "--get-login", server.host)
    fresh.ok("logout", f"{server.host}/team")


def test_the_registry_may_come_from_registries_conf(fresh: Engine, server: DockerRegistry) -> None:
    assert "a registry must be provided" in fresh.fails("login", PLAIN)
    folder = fresh.home / ".config/containers"
    folder.mkdir(parents=True)
    (folder / "registries.conf").write_text(
        f'unqualified-search-registries = ["{server.host}"]\n'
        f'[[registry]]\nlocation = "{server.host}"\ninsecure = true\n'
    )
    out = fresh.ok("login", "-u", USER, "--password-stdin", input=PASSWORD)
    assert out == "Login Succeeded!"
    assert fresh.ok("logout") == f"Removed login credentials for {server.host}"


@pytest.mark.peer
@pytest.mark.needs("skopeo")
def test_skopeo_reads_and_writes_the_same_file(fresh: Engine, server: DockerRegistry) -> None:
    login(fresh, server.host)
    skopeo = ["skopeo", "login", "--get-login", server.host]
    done = subprocess.run(skopeo, env=fresh.env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == USER
    skopeo = ["skopeo", "logout", server.host]
    subprocess.run(skopeo, env=fresh.env, check=True, capture_output=True)
    assert "not logged into" in fresh.fails("login", "--get-login", server.host)
    skopeo = ["skopeo", "login", PLAIN, "-u", USER, "--password-stdin", server.host]
    subprocess.run(
        skopeo, env=fresh.env, input=PASSWORD, text=True, check=True, capture_output=True
    )
    assert fresh.ok("login", "--get-login", server.host) == USER


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--password-stdin", "a.example"), "must provide --username with --password-stdin"),
        (("-u", "x", "-p", "y", "--password-stdin", "a.example"), "can't specify both"),
        (("a.example",), "cannot prompt without stdin"),
        (("-u", "x", "-p", "y", "a.example/x:tag"), "not for a tag or digest"),
        (("--secret", "s", "a.example"), "secrets are not available"),
        (("--authfile=x", "--compat-auth-file=y", "a.example"), "can not be set simultaneously"),
    ],
)
def test_mistakes(rootless: Engine, words: tuple[str, ...], message: str) -> None:
    assert message in rootless.fails("login", *words)


def test_credential_helper(fresh: Engine, server: DockerRegistry, tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-rlt"
    helper.write_text(
        "#!/bin/sh\ncase $1 in\n"
        f"store) cat > {tmp_path}/kept ;;\n"
        f"get) [ -f {tmp_path}/kept ] && cat {tmp_path}/kept || {{ echo not found; exit 1; }} ;;\n"
        f"erase) rm {tmp_path}/kept ;;\nesac\n"
    )
    helper.chmod(0o755)
    fresh.env["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    path = fresh.run_home / "containers/auth.json"
    path.parent.mkdir(mode=0o700)
    path.write_text(json.dumps({"credHelpers": {server.host: "rlt"}}))
    login(fresh, server.host)
    assert json.loads((tmp_path / "kept").read_text())["Secret"] == PASSWORD
    assert PASSWORD not in path.read_text()
    assert fresh.ok("login", "--get-login", server.host) == USER
    assert fresh.ok("search", PLAIN, f"{server.host}/") == ""
    fresh.ok("logout", server.host)
    assert not (tmp_path / "kept").exists()
