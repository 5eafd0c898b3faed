"""containers.conf below the command line."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.config import SETTINGS, Config
from rootless.container import defaults
from rootless.container.options import CreateOptions
from rootless.container.spec import HostFacts, make_spec
from rootless.errors import RootlessError


def applied(
    containers: dict[str, Any], engine: dict[str, Any] | None = None, **flags: Any
) -> CreateOptions:
    options = CreateOptions.from_flags(flags, ["bb"], host_env={}, cwd="/")
    defaults.apply(options, Config({"containers": containers, "engine": engine or {}}))
    return options


def test_nothing_is_set() -> None:
    assert applied({}) == CreateOptions.from_flags({}, ["bb"], host_env={}, cwd="/")


@pytest.mark.parametrize(
    ("key", "value", "flag", "given", "name", "configured", "asked"),
    [
        ("shm_size", "1m", "shm_size", "65536k", "shm_size", 1 << 20, 65536 << 10),
        ("umask", "0077", "umask", "0022", "umask", "0077", "0022"),
        ("netns", "host", "network", ["none"], "network", "host", "none"),
        ("netns", "pasta:-4", "network", ["none"], "network", "pasta", "none"),
        ("ipcns", "host", "ipc", "private", "ipc", "host", "private"),
        ("pidns", "host", "pid", "private", "pid", "host", "private"),
        ("utsns", "host", "uts", "private", "uts", "host", "private"),
        ("userns", "keep-id", "userns", "host", "userns", "keep-id", "host"),
        ("init", True, "init", False, "init", True, False),
        ("http_proxy", False, "http_proxy", True, "http_proxy", False, True),
        ("env_host", True, "env_host", False, "env_host", True, False),
        ("read_only", True, "read_only", False, "read_only", True, False),
        ("oom_score_adj", 5, "oom_score_adj", 0, "oom_score_adj", 5, 0),
        ("log_tag", "x", "log_opt", ["tag=y"], "log_tag", "x", "y"),
        ("log_driver", "none", "log_driver", "k8s-file", "log_driver", "none", "k8s-file"),
        ("tz", "local", "tz", "UTC", "tz", "local", "UTC"),
    ],
)  # fmt: skip
def test_scalar(
    key: str, value: Any, flag: str, given: Any, name: str, configured: Any, asked: Any
) -> None:
    assert getattr(applied({key: value}), name) == configured
    assert getattr(applied({key: value}, **{flag: given}), name) == asked


def test_engine_table() -> None:
    options = applied(
        {}, {"stop_timeout": 3, "image_volume_mode": "tmpfs", "detach_keys": "ctrl-a"}
    )
    assert (options.stop_timeout, options.image_volume, options.detach_keys) == (
        3,
        "tmpfs",
        "ctrl-a",
    )


def test_lists() -> None:
    options = applied(
        {
            "annotations": ["a=1", "b=2"],
            "default_ulimits": ["nofile=1:2", "core=0"],
            "volumes": ["/tmp:/y", "/tmp:/z"],
            "mounts": ["type=tmpfs,dst=/t"],
            "devices": ["/dev/null"],
        },
        annotation=["b=3"],
        ulimit=["nofile=5"],
        volume=["/etc:/y"],
        device=["/dev/zero"],
    )
    assert options.annotations == {"a": "1", "b": "3"}
    assert options.ulimits == [("core", 0, 0), ("nofile", 5, 5)]
    assert [(m["source"], m["destination"]) for m in options.mounts] == [
        ("tmpfs", "/t"),
        ("/tmp", "/z"),
        ("/etc", "/y"),
    ]
    assert [device["path"] for device in options.devices] == ["/dev/null", "/dev/zero"]


def test_a_distributions_journald_is_a_wish() -> None:
    assert applied({"log_driver": "journald"}).log_driver == ""


def test_hostname_is_over_the_hosts_namespace() -> None:
    assert applied({"utsns": "host"}, hostname="x").uts == ""


def test_mistake_in_the_file() -> None:
    with pytest.raises(RootlessError, match=r"^containers.conf: invalid option type .bad.$"):
        applied({"volumes": ["/tmp:/y:bad"]})


def test_surroundings() -> None:
    host = HostFacts("f" * 64)
    host.env = {"HOME": "/h"}
    config = Config(
        {
            "containers": {
                "env": ["A=b", "HOME", "FOO=weak"],
                "default_capabilities": ["CHOWN"],
                "default_sysctls": ["net.ipv4.ip_forward=1"],
            }
        }
    )
    defaults.surroundings(host, config)
    document = make_spec(CreateOptions(), {"Cmd": ["x"], "Env": ["FOO=bar"]}, host)
    assert {"A=b", "HOME=/h", "FOO=bar"} <= set(document["process"]["env"])
    assert document["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]
    assert document["linux"]["sysctl"] == {"net.ipv4.ip_forward": "1"}


def test_every_key_about_containers_is_known() -> None:
    """A key that the files may set is applied somewhere, or it has no business in SETTINGS."""
    elsewhere = {
        "base_hosts_file", "dns_options", "dns_searches", "dns_servers", "host_containers_internal_ip", "init_path",
        "log_size_max", "pids_limit", "seccomp_profile", "env", "default_capabilities", "default_sysctls",
        "apparmor_profile",
        # not ours: no keyring is made, labels are the host's matter, volumes are made at create
        "interface_name", "keyring", "label", "prepare_volume_on_create", "userns_size",
    }  # fmt: skip
    known = {key for _, key, _, _ in defaults._SCALARS} | {key for key, _ in defaults._LISTS}
    assert set(SETTINGS["containers"]) - known - elsewhere == set()
