"""rootless.config: which files are read, in what order, and what is said about a wrong one."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from rootless import config, data, log
from rootless.errors import RootlessError


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty host below tmp_path: usr, etc and etc-own for the system, home for the user."""
    system = tuple(str(tmp_path / name) for name in ("usr", "etc", "etc-own"))
    monkeypatch.setattr(config, "_SYSTEM", system)
    for name in ("CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_STORAGE_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", "/home/someone")
    return tmp_path


def put(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_the_shipped_file_states_every_setting_at_its_default() -> None:
    text = Path(data.data_path("config", "containers.conf")).read_text()
    assert tomllib.loads(text) == {table: {} for table in config.SETTINGS if table != "storage"}
    stated = tomllib.loads(re.sub(r"(?m)^#(?! )|^#(?=  \S)", "", text))
    assert stated == {table: keys for table, keys in config.SETTINGS.items() if table != "storage"}


def test_every_choice_list_belongs_to_a_setting_and_holds_its_default() -> None:
    for key, choices in config._CHOICES.items():
        defaults = [table[key] for table in config.SETTINGS.values() if key in table]
        assert defaults, key
        assert choices is None or all(
            default in choices for default in defaults if default != "file"
        ), key


def test_without_files_the_defaults_hold_and_nothing_is_kept(host: Path) -> None:
    settings = config.load(str(host / "cache"))
    assert settings.number("engine", "stop_timeout") == 10
    assert settings.text("containers", "log_driver") == "k8s-file"
    assert settings.data_root() is None
    assert not (host / "cache").exists()


def test_later_files_win_key_by_key(host: Path) -> None:
    put(
        host / "usr/containers.conf",
        "[engine]\nstop_timeout = 1\nretry = 1\n[containers]\ninit = true",
    )
    put(host / "etc/containers.conf", "[engine]\nstop_timeout = 2")
    put(host / "etc/containers.conf.d/20-b.conf", "[engine]\nstop_timeout = 4")
    put(host / "etc/containers.conf.d/10-a.conf", "[engine]\nstop_timeout = 3")
    put(host / "etc/containers.conf.d/30-c.txt", "not read")
    settings = config.load()
    assert settings.number("engine", "stop_timeout") == 4
    assert settings.number("engine", "retry") == 1
    assert settings.flag("containers", "init")
    put(host / "home/containers/containers.conf", "[engine]\nstop_timeout = 5")
    put(host / "home/containers/containers.conf.d/a.conf", "[engine]\nstop_timeout = 6")
    assert config.load().number("engine", "stop_timeout") == 6
    put(host / "home/rootless/containers.conf", "[engine]\nstop_timeout = 7")
    assert config.load().number("engine", "stop_timeout") == 7
    assert [Path(path).name for path in config.sources()][-1] == "containers.conf"


def test_root_does_not_read_the_files_of_its_home(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(host / "home/containers/containers.conf", "[engine]\nstop_timeout = 5")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.load().number("engine", "stop_timeout") == 10


def test_the_environment_replaces_and_overrides(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(host / "etc/containers.conf", "[engine]\nstop_timeout = 2\nretry = 9")
    monkeypatch.setenv("CONTAINERS_CONF", put(host / "only.conf", "[engine]\nstop_timeout = 3"))
    settings = config.load()
    assert (settings.number("engine", "stop_timeout"), settings.number("engine", "retry")) == (3, 3)
    monkeypatch.setenv("CONTAINERS_CONF_OVERRIDE", put(host / "over.conf", "[engine]\nretry = 1"))
    assert config.load().number("engine", "retry") == 1
    monkeypatch.setenv("CONTAINERS_CONF", "/nonexistent/x.conf")
    with pytest.raises(
        RootlessError, match=r"/nonexistent/x\.conf: cannot read .* environment names: No such file"
    ):
        config.load()


def test_a_list_may_append(host: Path) -> None:
    put(
        host / "etc/containers.conf",
        '[containers]\nenv = ["A=1"]\nvolumes = ["/a:/a", {append=true}]',
    )
    put(host / "home/containers/containers.conf", '[containers]\nenv = ["B=2", {append=true}]')
    settings = config.load()
    assert settings.texts("containers", "env") == ["A=1", "B=2"]
    assert settings.texts("containers", "volumes") == ["/a:/a"]
    put(host / "home/rootless/containers.conf", '[containers]\nenv = ["C=3", {append=false}]')
    assert config.load().texts("containers", "env") == ["C=3"]
    put(
        host / "home/rootless/containers.conf",
        '[containers]\ndefault_capabilities = ["NET_RAW", {append=true}]',
    )
    assert config.load().texts("containers", "default_capabilities")[-2:] == [
        "SYS_CHROOT",
        "NET_RAW",
    ]


def test_appending_never_changes_the_declared_default(host: Path) -> None:
    before = list(config.SETTINGS["containers"]["default_capabilities"])
    put(
        host / "etc/containers.conf",
        '[containers]\ndefault_capabilities = ["NET_RAW", {append=true}]',
    )
    config.load().texts("containers", "default_capabilities").append("X")
    assert config.SETTINGS["containers"]["default_capabilities"] == before
    assert "X" not in config.load().texts("containers", "default_capabilities")


def test_tables_merge(host: Path) -> None:
    put(host / "etc/containers.conf", '[engine.runtimes]\ncrun = ["/a"]\nrunc = ["/b"]')
    put(host / "home/containers/containers.conf", '[engine.runtimes]\ncrun = ["/c"]')
    assert config.load().mapping("engine", "runtimes") == {"crun": ["/c"], "runc": ["/b"]}


def test_unknown_keys_are_ignored_with_a_note(
    host: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(
        host / "etc/containers.conf", "[machine]\ncpus = 2\n[engine]\nfrobnicate = 1\nretry = 2"
    )
    assert config.load().number("engine", "retry") == 2
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(log, "level", log.DEBUG)
    config.load()
    assert capfd.readouterr().err.splitlines() == [
        f"DEBUG: {path}: [machine]: not a table of ours, ignored",
        f"DEBUG: {path}: [engine] frobnicate: not a key of ours, ignored",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[engine]\nstop_timeout = '5'", "[engine] stop_timeout: '5' is not a whole number"),
        ("[engine]\nstop_timeout = true", "[engine] stop_timeout: True is not a whole number"),
        ("[containers]\ninit = 1", "[containers] init: 1 is not true or false"),
        ("[containers]\ntz = 1", "[containers] tz: 1 is not a string"),
        ("[containers]\nenv = 'A=1'", "[containers] env: 'A=1' is not a list"),
        ("[containers]\nenv = [1]", "[containers] env: [1] is not a list of strings"),
        (
            "[network]\ndefault_subnet_pools = ['a']",
            "[network] default_subnet_pools: ['a'] is not a list of tables",
        ),
        ("[engine]\nruntimes = 1", "[engine] runtimes: 1 is not a table"),
        (
            "[engine]\npull_policy = 'sometimes'",
            "[engine] pull_policy: 'sometimes' is not one of always, missing, newer, never",
        ),
        (
            "[engine\n",
            "not valid TOML: expected ']' at the end of a table declaration (at line 1, column 8)",
        ),
    ],
)
def test_a_wrong_file_is_named_with_key_and_expectation(host: Path, text: str, reason: str) -> None:
    path = put(host / "etc/containers.conf", text)
    with pytest.raises(RootlessError) as error:
        config.load()
    assert error.value.message == f"{path}: {reason}"


def test_an_unreadable_file_is_an_error(host: Path) -> None:
    (host / "etc/containers.conf").mkdir(parents=True)
    with pytest.raises(RootlessError, match=r"containers\.conf: cannot read it: .*Is a directory"):
        config.load()


def test_the_parsed_result_is_kept_until_a_file_changes(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = str(host / "run/cache")
    path = host / "etc/containers.conf"
    put(path, "[engine]\nstop_timeout = 2")
    assert config.load(cache).number("engine", "stop_timeout") == 2
    with monkeypatch.context() as context:
        context.setattr(tomllib, "load", lambda _: pytest.fail("parsed again"))
        assert config.load(cache).number("engine", "stop_timeout") == 2
    put(path, "[engine]\nstop_timeout = 33")
    assert config.load(cache).number("engine", "stop_timeout") == 33
    put(host / "etc/containers.conf.d/x.conf", "[engine]\nstop_timeout = 4")
    assert config.load(cache).number("engine", "stop_timeout") == 4
    (host / "etc/containers.conf.d/x.conf").unlink()
    assert config.load(cache).number("engine", "stop_timeout") == 33


@pytest.mark.parametrize("rubbish", [b"", b"rubbish", b"(\x02\x00\x00\x00NN"])
def test_a_damaged_cache_is_replaced(host: Path, rubbish: bytes) -> None:
    cache = host / "run/cache"
    put(host / "etc/containers.conf", "[engine]\nstop_timeout = 2")
    config.load(str(cache))
    (cache / "config").write_bytes(rubbish)
    assert config.load(str(cache)).number("engine", "stop_timeout") == 2
    assert (cache / "config").read_bytes() != rubbish


def test_a_cache_that_cannot_be_written_is_done_without(host: Path) -> None:
    put(host / "etc/containers.conf", "[engine]\nstop_timeout = 2")
    put(host / "file", "")
    assert config.load(str(host / "file/cache")).number("engine", "stop_timeout") == 2


@pytest.mark.parametrize(
    ("where", "text", "root"),
    [
        ("etc", "[storage]\ngraphroot = '/var/lib/containers/storage'", None),
        ("etc", "[storage]\ngraphroot = '/big/root'", None),
        (
            "etc",
            "[storage]\nrootless_storage_path = '/big/$UID/containers'",
            f"/big/{os.geteuid()}/containers/rootless",
        ),
        (
            "home/containers",
            "[storage]\ngraphroot = '/home/someone/.local/share/containers/storage'",
            None,
        ),
        ("home/containers", "[storage]\ngraphroot = '/scratch/me'", "/scratch/me/rootless"),
        ("home/containers", "[storage]\ngraphroot = '$HOME/x'", "/home/someone/x/rootless"),
        ("home/rootless", "[storage]\ngraphroot = '/scratch/me/'", "/scratch/me"),
    ],
)
def test_storage_conf_gives_the_place(
    host: Path, monkeypatch: pytest.MonkeyPatch, where: str, text: str, root: str | None
) -> None:
    path = put(host / where / "storage.conf", text)
    if where == "etc":
        real = config._files

        def files(modules: object) -> object:
            return ((path if kind == "storage-system" else name, kind) for name, kind in real())

        monkeypatch.setattr(config, "_files", files)
    assert config.load().data_root() == root


@pytest.mark.parametrize(
    ("where", "place", "run"),
    [
        ("containers", "/run/user/$UID/containers", None),
        ("containers", "/run/containers/storage", None),
        ("containers", "/tmp/$UID/run", f"/tmp/{os.geteuid()}/run/rootless"),
        ("rootless", "$HOME/run", "/home/someone/run"),
    ],
)
def test_storage_conf_gives_the_run_time_place(
    host: Path, where: str, place: str, run: str | None
) -> None:
    put(host / f"home/{where}/storage.conf", f"[storage]\nrunroot = '{place}'")
    assert config.load().run_root() == run


def test_storage_options_are_one_table(host: Path) -> None:
    put(
        host / "home/containers/storage.conf",
        '[storage]\ndriver = "overlay"\n[storage.options]\nadditionalimagestores = ["/shared"]\n'
        '[storage.options.overlay]\nmount_program = "/usr/bin/fuse-overlayfs"\nignore_chown_errors = "true"\n'
        "[storage.options.vfs]\nfoo = 1\n",
    )
    settings = config.load()
    assert settings.texts("storage", "additionalimagestores") == ["/shared"]
    assert settings.text("storage", "mount_program") == "/usr/bin/fuse-overlayfs"
    assert settings.flag("storage", "ignore_chown_errors")


def test_a_relative_storage_place_is_refused(host: Path) -> None:
    put(host / "home/rootless/storage.conf", "[storage]\ngraphroot = 'here'")
    with pytest.raises(RootlessError, match="'here' is not an absolute path"):
        config.load()
