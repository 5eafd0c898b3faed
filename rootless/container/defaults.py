"""What containers.conf says about new containers, where the command line does not (containers.conf(5)).

A scalar holds where its option was not given; lists are put before what was given. Read when a container is made and kept
with it, except for what makes up the process's surroundings (`surroundings`), which each start reads anew.
"""

from __future__ import annotations

import os

from rootless.container.options import UNSUPPORTED, CreateOptions
from rootless.errors import RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.config import Config
    from rootless.container.spec import HostFacts

#: Key -> option and the attributes that it sets. `netns` and `userns` are options of another name.
_SCALARS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("containers", "cgroupns", "cgroupns", ("cgroupns",)),
    ("containers", "cgroups", "cgroups", ("cgroups",)),
    ("containers", "env_host", "env_host", ("env_host",)),
    ("containers", "http_proxy", "http_proxy", ("http_proxy",)),
    ("containers", "init", "init", ("init",)),
    ("containers", "ipcns", "ipc", ("ipc",)),
    ("containers", "log_driver", "log_driver", ("log_driver",)),
    ("containers", "log_tag", "log_opt", ("log_tag",)),
    ("containers", "netns", "network", ("network", "network_options", "networks")),
    ("containers", "no_hostname", "no_hostname", ("no_hostname",)),
    ("containers", "no_hosts", "no_hosts", ("no_hosts",)),
    ("containers", "oom_score_adj", "oom_score_adj", ("oom_score_adj",)),
    ("containers", "pidns", "pid", ("pid",)),
    ("containers", "privileged", "privileged", ("privileged",)),
    ("containers", "read_only", "read_only", ("read_only",)),
    ("containers", "shm_size", "shm_size", ("shm_size",)),
    ("containers", "tz", "tz", ("tz",)),
    ("containers", "umask", "umask", ("umask",)),
    ("containers", "userns", "userns", ("userns",)),
    ("containers", "utsns", "uts", ("uts",)),
    ("engine", "image_volume_mode", "image_volume", ("image_volume",)),
    ("engine", "pull_policy", "pull", ("pull",)),
    ("engine", "stop_timeout", "stop_timeout", ("stop_timeout",)),
    ("engine", "detach_keys", "detach_keys", ("detach_keys",)),
)
_LISTS = (
    ("annotations", "annotation"),
    ("default_ulimits", "ulimit"),
    ("devices", "device"),
    ("mounts", "mount"),
    ("volumes", "volume"),
)


def apply(options: CreateOptions, config: Config) -> None:
    """Fill in what the configuration files set and the command line does not."""
    flags: dict[str, Any] = {}
    attributes: list[str] = []
    if (
        "PODMAN_SYSTEMD_UNIT" in os.environ
        and "log_driver" not in options.given
        and not config.given("containers", "log_driver")
        and _has_journal()
    ):
        options.log_driver = "journald"  # a service of systemd's logs where services do
    for table, key, flag, names in _SCALARS:
        if flag in options.given or not config.given(table, key):
            continue
        value = config._get(table, key)
        if isinstance(value, str) and f"{flag}={value}" in UNSUPPORTED:
            continue
        if flag == "log_driver" and value == "journald" and not _has_journal():
            continue  # a distribution's `journald` is a wish: there is a local log in any case
        if (flag == "uts" and options.hostname) or (
            flag == "userns" and (options.uidmap or options.gidmap)
        ):
            continue
        if flag == "log_opt":
            value = [f"tag={value}"]
        flags[flag] = [value] if flag == "network" else value
        attributes += names
    for key, flag in _LISTS:
        if config.given("containers", key):
            flags[flag] = config.texts("containers", key)
    if (
        config.given("containers", "apparmor_profile")
        and not options.apparmor
        and not options.privileged
    ):
        flags["security_opt"] = [f"apparmor={config.text('containers', 'apparmor_profile')}"]
        attributes.append("apparmor")
    if not flags:
        return
    try:
        wanted = CreateOptions.from_flags(flags, [], host_env={}, cwd="/")
    except Usage as error:
        raise RootlessError(f"containers.conf: {error}", hint=error.hint) from None
    for name in attributes:
        setattr(options, name, getattr(wanted, name))
    options.annotations = {**wanted.annotations, **options.annotations}
    named = {name for name, _, _ in options.ulimits}
    options.ulimits = [u for u in wanted.ulimits if u[0] not in named] + options.ulimits
    options.devices = wanted.devices + [d for d in options.devices if d not in wanted.devices]
    places = {mount["destination"] for mount in options.mounts}
    options.mounts = [m for m in wanted.mounts if m["destination"] not in places] + options.mounts


def _has_journal() -> bool:
    from rootless.systemd.journal import is_there

    return is_there()


def surroundings(host: HostFacts, config: Config) -> None:
    """What every process gets: variables, capabilities and sysctls in place of the engine's own."""
    if config.given("containers", "env"):
        from rootless.container.env import parse_variables

        host.default_env = parse_variables(config.texts("containers", "env"), host.env)
    if config.given("containers", "default_capabilities"):
        host.default_capabilities = config.texts("containers", "default_capabilities")
    if config.given("containers", "default_sysctls"):
        host.default_sysctls = config.texts("containers", "default_sysctls")
