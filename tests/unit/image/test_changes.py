"""--change: the instructions that Podman takes, in both forms."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import RootlessError
from rootless.image.changes import apply


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (['CMD ["a","b"]'], {"Cmd": ["a", "b"]}),
        (["CMD a b"], {"Cmd": ["/bin/sh", "-c", "a b"]}),
        (["CMD=/x"], {"Cmd": ["/bin/sh", "-c", "/x"]}),
        (['cmd ["a"]', 'ENTRYPOINT ["e"]'], {"Cmd": ["a"], "Entrypoint": ["e"]}),
        (["ENV A=1 B='x y'", "ENV A=2", "ENV C d e"], {"Env": ["A=2", "B=x y", "C=d e"]}),
        (["ENV=A=1"], {"Env": ["A=1"]}),
        (["LABEL a=1", 'LABEL b="2 3"'], {"Labels": {"a": "1", "b": "2 3"}}),
        (['LABEL "a b"="c d" e=f'], {"Labels": {"a b": "c d", "e": "f"}}),
        (["EXPOSE 80", "EXPOSE 53/UDP 90-91"], {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}}}),
        (['VOLUME ["/a","/b c"]', "VOLUME /d"], {"Volumes": {"/a": {}, "/b c": {}, "/d": {}}}),
        (["USER 1:2"], {"User": "1:2"}),
        (["WORKDIR /a", "WORKDIR b"], {"WorkingDir": "/a/b"}),
        (["STOPSIGNAL sigterm"], {"StopSignal": "sigterm"}),
        (["ONBUILD RUN x", "ONBUILD ADD y"], {"OnBuild": ["RUN x", "ADD y"]}),
    ],
)  # fmt: skip
def test_instructions(changes: list[str], expected: dict[str, Any]) -> None:
    config: dict[str, Any] = {}
    apply(config, changes)
    assert config == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("FROM x", 'invalid change "FROM x" - invalid instruction FROM'),
        ("CMD", "must be formatted as KEY VALUE"),
        ("ENV x", "must be formatted as KEY=VALUE"),
        ("EXPOSE 99999", "invalid port"),
        ("EXPOSE x", "invalid port"),
        ("EXPOSE 80/x", "invalid protocol"),
        ("STOPSIGNAL NOSUCH", "invalid signal"),
        ("LABEL a='b", "No closing quotation"),
    ],
)
def test_mistakes(change: str, message: str) -> None:
    with pytest.raises(RootlessError) as caught:
        apply({}, [change])
    assert message in str(caught.value)


def test_an_entrypoint_ends_the_command_that_was_for_another() -> None:
    for changes, left in (
        (["ENTRYPOINT e"], None),
        (["ENTRYPOINT e", "CMD b"], ["/bin/sh", "-c", "b"]),
        (["CMD b", "ENTRYPOINT e"], ["/bin/sh", "-c", "b"]),
        (["ENTRYPOINT="], ["a"]),
    ):
        config: dict[str, Any] = {"Cmd": ["a"], "Entrypoint": ["old"]}
        apply(config, changes)
        assert config.get("Cmd") == left
        assert config.get("Entrypoint") == (
            None if changes == ["ENTRYPOINT="] else ["/bin/sh", "-c", "e"]
        )


def test_an_images_own_settings_are_not_changed_in_place() -> None:
    base = {"Env": ["A=1"], "Labels": {"x": "y"}}
    config = dict(base)
    apply(config, ["ENV A=2", "LABEL x=z"])
    assert base == {"Env": ["A=1"], "Labels": {"x": "y"}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        ("HEALTHCHECK CMD curl -f x", {"Healthcheck": {"Test": ["CMD-SHELL", "curl -f x"]}}),
        (
            'HEALTHCHECK --interval=1m --retries=3 --start-period=500ms CMD ["a", "b"]',
            {
                "Healthcheck": {
                    "Test": ["CMD", "a", "b"],
                    "Interval": 60_000_000_000,
                    "Retries": 3,
                    "StartPeriod": 500_000_000,
                }
            },
        ),
        ('SHELL ["/bin/bash", "-c"]', {"Shell": ["/bin/bash", "-c"]}),
    ],
)
def test_what_docker_images_know_beyond(change: str, expected: dict[str, object]) -> None:
    config: dict[str, object] = {}
    apply(config, [change], docker=True)
    assert config == expected
    with pytest.raises(RootlessError, match="invalid instruction"):
        apply({}, [change])


@pytest.mark.parametrize(
    "change",
    ["HEALTHCHECK x", "HEALTHCHECK CMD", "HEALTHCHECK --x=1s CMD a", "SHELL bash", "SHELL [bash"],
)
def test_mistakes_in_them(change: str) -> None:
    with pytest.raises(RootlessError, match="invalid change"):
        apply({}, [change], docker=True)
