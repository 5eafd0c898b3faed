from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rootless.errors import InvalidReference, PolicyError, RootlessError, Usage
from rootless.image import reference, registries
from rootless.image.registries import Registries

Load = Callable[..., Registries]
SHA = "sha256:" + "ab" * 32


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setattr(registries, "_SYSTEM", str(tmp_path / "etc"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "etc/registries.conf.d").mkdir(parents=True)
    (tmp_path / "config/containers/registries.conf.d").mkdir(parents=True)

    def write_and_load(files: dict[str, str] | str, **env: str) -> Registries:
        if isinstance(files, str):
            files = {"etc/registries.conf": files}
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), **env}
        return registries.load(
            {key: value.replace("@", str(tmp_path)) for key, value in env.items()}
        )

    return write_and_load


def endpoints(config: Registries, text: str) -> list[str]:
    return [str(one.reference) for one in config.endpoints(reference.parse(text))]


EXAMPLE = """
unqualified-search-registries = ["example.com"]
[[registry]]
prefix = "example.com/foo"
location = "internal.example.net/bar"
[[registry.mirror]]
location = "mirror-0.local/mirror-for-foo"
[[registry.mirror]]
location = "mirror-1.local/mirrors/foo"
insecure = true
[[registry]]
location = "registry.com"
[[registry.mirror]]
location = "mirror.registry.com"
[[registry]]
prefix = "*.blocked.org"
blocked = true
[[registry]]
prefix = "ok.blocked.org"
"""


def test_manual_page_example(load: Load) -> None:
    config = load(EXAMPLE)
    assert endpoints(config, "example.com/foo/image:latest") == [
        "mirror-0.local/mirror-for-foo/image:latest",
        "mirror-1.local/mirrors/foo/image:latest",
        "internal.example.net/bar/image:latest",
    ]
    assert [
        e.insecure for e in config.endpoints(reference.parse("example.com/foo/image:latest"))
    ] == [
        False,
        True,
        False,
    ]
    assert endpoints(config, "example.com/foobar") == ["example.com/foobar"]
    assert endpoints(config, "registry.com/i@" + SHA) == [
        "mirror.registry.com/i@" + SHA,
        "registry.com/i@" + SHA,
    ]
    with pytest.raises(PolicyError, match=r"\*\.blocked\.org is blocked"):
        config.endpoints(reference.parse("a.b.blocked.org/x"))
    assert endpoints(config, "ok.blocked.org/x") == ["ok.blocked.org/x"]
    assert endpoints(config, "blocked.org/x") == ["blocked.org/x"]


def test_mirror_selection_by_digest(load: Load) -> None:
    config = load(
        """
[[registry]]
location = "a.com"
[[registry.mirror]]
location = "digest.com"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tag.com"
pull-from-mirror = "tag-only"
[[registry]]
location = "b.com"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.com"
"""
    )
    assert endpoints(config, "a.com/x:1") == ["tag.com/x:1", "a.com/x:1"]
    assert endpoints(config, "a.com/x@" + SHA) == ["digest.com/x@" + SHA, "a.com/x@" + SHA]
    assert endpoints(config, "b.com/x:1") == ["b.com/x:1"]
    assert endpoints(config, "b.com/x@" + SHA) == ["m.com/x@" + SHA, "b.com/x@" + SHA]


def test_wildcard_prefix_with_location(load: Load) -> None:
    config = load('[[registry]]\nprefix = "*.example.com"\nlocation = "one.net/all"\n')
    assert endpoints(config, "a.b.example.com/x:1") == ["one.net/all/x:1"]


def test_drop_ins_and_overrides(load: Load) -> None:
    files = {
        "etc/registries.conf": 'unqualified-search-registries = ["a.com"]\n[aliases]\n"x" = "a.com/x"\n"y" = "a.com/y"',
        "etc/registries.conf.d/10.conf": '[aliases]\n"x" = "b.com/x"\n"y" = ""',
        "etc/registries.conf.d/ignored": "not toml",
        "config/containers/registries.conf.d/05.conf": 'unqualified-search-registries = ["u.com"]',
        "over.conf": '[aliases]\n"x" = "o.com/x"',
    }
    config = load(files)
    assert config.search == ["u.com"]
    assert config.aliases == {"x": "b.com/x"}
    config = load({}, CONTAINERS_REGISTRIES_CONF_OVERRIDE="@/over.conf")
    assert config.aliases == {"x": "o.com/x"}
    config = load({}, CONTAINERS_REGISTRIES_CONF="@/over.conf")
    assert config.search == ["u.com"]
    assert config.aliases == {"x": "b.com/x"}
    # A user's main file takes the place of the system's file and folder.
    config = load(
        {"config/containers/registries.conf": 'unqualified-search-registries = ["me.com"]\n'}
    )
    assert config.search == ["u.com"]
    assert config.aliases == {}


def test_missing_files_are_no_error(load: Load) -> None:
    config = load({})
    assert config.search == []
    assert config.short_name_mode == "enforcing"


def test_missing_chosen_file_is_an_error(load: Load) -> None:
    with pytest.raises(RootlessError, match="no such file"):
        load({}, CONTAINERS_REGISTRIES_CONF="@/none.conf")


@pytest.mark.parametrize(
    "text",
    [
        "x = [",
        'short-name-mode = "loose"',
        'unqualified-search-registries = "a.com"',
        "unqualified-search-registries = [1]",
        '[[registry]]\nlocation = "https://a.com"',
        "[[registry]]\ninsecure = true",
        '[[registry]]\nlocation = "a.com"\ninsecure = "yes"',
        '[[registry]]\nprefix = "*.a.com/x"',
        '[[registry]]\nprefix = "a.*.com"',
        '[[registry]]\nlocation = "a.com"\n[[registry.mirror]]\npull-from-mirror = "never"',
        '[aliases]\n"a.com/x" = "b.com/x"',
        '[aliases]\n"x" = "y"',
        '[aliases]\n"x" = "b.com/y:tag"',
        'unqualified-search-registries = ["a"]\n[registries.search]\nregistries = ["b"]',
    ],
)
def test_bad_files_are_named(load: Load, text: str) -> None:
    with pytest.raises(RootlessError):
        load(text)


def test_version_1(load: Load) -> None:
    config = load(
        '[registries.search]\nregistries = ["s.com"]\n'
        '[registries.insecure]\nregistries = ["i.com"]\n[registries.block]\nregistries = ["b.com"]\n'
    )
    assert config.search == ["s.com"]
    assert config.is_insecure(reference.parse("i.com/x"))
    with pytest.raises(PolicyError):
        config.endpoints(reference.parse("b.com/x"))


def test_resolve_alias_keeps_tag_and_digest(load: Load) -> None:
    config = load('[aliases]\n"x" = "a.com/team/x"\n')
    found = config.resolve(reference.parse("x:1@" + SHA))
    assert [str(one) for one in found.candidates] == ["a.com/team/x:1@" + SHA]
    assert found.note.startswith('Resolved "x" as an alias (')


def test_case_37_short_names_are_not_searched_silently(load: Load) -> None:
    two = 'unqualified-search-registries = ["a.com", "b.com"]\n'
    with pytest.raises(InvalidReference, match="ambiguous"):
        load(two).resolve(reference.parse("x"))
    with pytest.raises(InvalidReference, match="no unqualified-search registries"):
        load("").resolve(reference.parse("x"))
    chosen = load(two).resolve(
        reference.parse("x"), lambda name, names: names.index("b.com/x:latest")
    )
    assert [str(one) for one in chosen.candidates] == ["b.com/x"]
    assert chosen.remember
    for mode in ("permissive", "disabled"):
        found = load(f'short-name-mode = "{mode}"\n{two}').resolve(reference.parse("x:1"))
        assert [str(one) for one in found.candidates] == ["a.com/x:1", "b.com/x:1"]
        assert "unqualified-search registries" in found.note
    one = load('unqualified-search-registries = ["a.com"]\n').resolve(reference.parse("x"))
    assert [str(ref) for ref in one.candidates] == ["a.com/x"]


def test_remembered_alias_wins(load: Load, tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    registries.remember_alias("x", reference.parse("b.com/x:1"), env)
    registries.remember_alias("w/z", reference.parse("b.com/z"), env)
    path = registries.alias_cache_path(env)
    assert os.stat(path).st_mode & 0o777 == 0o600
    config = load('[aliases]\n"x" = "a.com/x"\n')
    assert config.aliases == {"x": "b.com/x", "w/z": "b.com/z"}


def test_bad_rewrite_is_told(load: Load) -> None:
    config = load('[[registry]]\nprefix = "a.com"\nlocation = "B.com/UP"\n')
    with pytest.raises(InvalidReference, match="conf rewrites it"):
        config.endpoints(reference.parse("a.com/x"))


def test_usage_is_rootless_error() -> None:
    assert issubclass(Usage, RootlessError)
