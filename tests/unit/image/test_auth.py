from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from rootless.errors import NotFound, RootlessError, Usage
from rootless.image import auth
from rootless.image.auth import Credentials


def basic(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return tmp_path


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def found(key: str, **more: str) -> str:
    credentials = auth.lookup(key, **more)  # type: ignore[arg-type]
    return f"{credentials.username}:{credentials.password}" if credentials else ""


def test_the_most_specific_entry_wins(home: Path) -> None:
    write(
        home / "run/containers/auth.json",
        {"auths": {"a.com": basic("host:1"), "a.com/x": basic("x:1"), "a.com/x/y": basic("y:1")}},
    )
    assert found("a.com/x/y") == "y:1"
    assert found("a.com/x/z/w") == "x:1"
    assert found("a.com/xx") == "host:1"
    assert found("b.com/x") == ""


def test_files_are_read_in_order(home: Path) -> None:
    write(
        home / ".docker/config.json",
        {"auths": {"a.com": basic("docker:1"), "b.com": basic("docker:2")}},
    )
    assert found("a.com/x") == "docker:1"
    write(home / "config/containers/auth.json", {"auths": {"a.com": basic("config:1")}})
    assert found("a.com/x") == "config:1"
    write(home / "run/containers/auth.json", {"auths": {"a.com": basic("run:1")}})
    assert found("a.com/x") == "run:1"
    assert found("b.com/x") == "docker:2"
    write(home / "mine.json", {"auths": {}})
    assert found("a.com/x", authfile=str(home / "mine.json")) == ""
    write(home / ".dockercfg", {"c.com": basic("old:1")})
    assert found("c.com/x") == "old:1"


def test_docker_hub_has_several_spellings(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"https://index.docker.io/v1/": basic("hub:1")}})
    assert found("docker.io/library/x") == "hub:1"
    auth.store(
        "docker.io", Credentials("new", "2"), str(home / ".docker/config.json"), docker_format=True
    )
    assert auth.read(str(home / ".docker/config.json"))["auths"] == {
        "https://index.docker.io/v1/": basic("new:2")
    }


def test_identity_token(home: Path) -> None:
    write(
        home / "run/containers/auth.json",
        {"auths": {"a.com": {**basic("u:"), "identitytoken": "t"}}},
    )
    credentials = auth.lookup("a.com/x")
    assert credentials is not None
    assert credentials.identity_token == "t"


def test_store_and_erase(home: Path) -> None:
    path = auth.primary_path()
    assert auth.store("a.com:5000/team", Credentials("user", "pa:ss"), path) == path
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert found("a.com:5000/team/x") == "user:pa:ss"
    write(Path(path), {**auth.read(path), "other": 1})
    assert auth.erase("a.com:5000/team", path)
    assert not auth.erase("a.com:5000/team", path)
    assert auth.read(path) == {"auths": {}, "other": 1}
    assert not auth.erase("a.com", str(home / "none.json"))
    assert not (home / "none.json").exists()


@pytest.mark.parametrize("key", ["a.com:tag:x", "a.com/x:tag", "a.com/", "A b", "", "a.com/X"])
def test_bad_keys(key: str) -> None:
    with pytest.raises(Usage):
        auth.check_key(key)


def test_keys_lose_their_scheme() -> None:
    assert auth.check_key("https://a.com:5000/") == "a.com:5000"
    assert auth.check_key("registry") == "registry"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"auths": []}',
        '{"auths": {"a.com": 1}}',
        '{"auths": {"a.com": {"auth": "%%%"}}}',
        '{"auths": {"a.com": {"auth": "bm9jb2xvbg=="}}}',
    ],
)
def test_damaged_files_are_named(home: Path, text: str) -> None:
    path = home / "auth.json"
    path.write_text(text)
    with pytest.raises(RootlessError, match=r"auth\.json"):
        auth.lookup("a.com", str(path))


HELPER = """#!/bin/sh
read -r server
case "$1 $server" in
"get a.com") echo '{"ServerURL":"a.com","Username":"helped","Secret":"1"}' ;;
"get t.com") echo '{"Username":"<token>","Secret":"identity"}' ;;
"get broken.com") echo no json ;;
get*) echo "credentials not found in native keychain"; exit 1 ;;
store*) echo "$server" > "$STORED" ;;
*) exit 3 ;;
esac
"""


@pytest.fixture
def helper(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = home / "docker-credential-test"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    monkeypatch.setenv("STORED", str(home / "stored"))
    return home


def test_credential_helpers(helper: Path) -> None:
    path = helper / "run/containers/auth.json"
    write(path, {"credHelpers": {"a.com": "test", "t.com": "test", "gone.com": "none"}})
    assert found("a.com/x") == "helped:1"
    token = auth.lookup("t.com/x")
    assert token is not None
    assert token.identity_token == "identity"
    assert found("b.com/x") == ""
    with pytest.raises(NotFound, match="docker-credential-none"):
        auth.lookup("gone.com/x")
    where = auth.store("a.com", Credentials("u", "p"), str(path))
    assert where == "docker-credential-test"
    assert json.loads((helper / "stored").read_text())["Secret"] == "p"
    assert "auth" not in path.read_text().replace("auths", "")
    with pytest.raises(Usage, match="whole registries"):
        auth.store("a.com/team", Credentials("u", "p"), str(path))
    assert auth.lookup("a.com/x", helpers=["test"]) is not None
    with pytest.raises(RootlessError, match="not JSON"):
        auth.lookup("broken.com/x", helpers=["test"])


@pytest.mark.parametrize("name", ["../evil", "/bin/evil", ".", "a/b"])
def test_helper_names_are_plain(home: Path, name: str) -> None:
    write(home / "run/containers/auth.json", {"credsStore": name})
    with pytest.raises(RootlessError, match="not a plain name"):
        auth.lookup("a.com/x")


def test_case_48_passwords_are_not_shown() -> None:
    assert "secret" not in repr(Credentials("user", "secret", "secret"))


def test_explicit_authfile_must_exist(home: Path) -> None:
    with pytest.raises(NotFound, match="credential file is not accessible"):
        auth.check_authfile(str(home / "none"))
