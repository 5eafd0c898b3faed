"""Settings: what we ship, then the system's files, then the user's, then those that the environment names.

The files are Podman 5's containers.conf and storage.conf in Podman 5's order (containers.conf(5)): every main file and
drop-in that exists is merged, later ones win key by key. (Podman 6 reads one main file; its rules differ.) After
Podman's files of a level come our own, /etc/rootless and ~/.config/rootless, for what shall not reach Podman.

SETTINGS is the only declaration: names, types and defaults; config/containers.conf is its commented twin for people,
and a test holds the two together. Unknown keys are ignored with a debug note, because every version of Podman brings
some. A key of the wrong type is an error that names file and key.

On every command's path, so: where no file exists nothing is parsed, and a parsed result is kept in the run-time folder
until one of the files changes (TOML's parser alone costs 10 ms).
"""

from __future__ import annotations

import os

from rootless import __version__, log, paths
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    Values = dict[str, dict[str, Any]]
    Stamp = list[tuple[str, int, int, int]]

# The type of a default is the type of the setting.
SETTINGS: Values = {
    "containers": {
        "annotations": [],
        "apparmor_profile": "",
        "base_hosts_file": "",
        "cgroupns": "private",
        "cgroups": "enabled",
        "default_capabilities": [
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ],
        "default_sysctls": ["net.ipv4.ping_group_range=0 0"],
        "default_ulimits": [],
        "devices": [],
        "dns_options": [],
        "dns_searches": [],
        "dns_servers": [],
        "env": [],
        "env_host": False,
        "host_containers_internal_ip": "",
        "http_proxy": True,
        "init": False,
        "init_path": "",
        "interface_name": "",
        "ipcns": "shareable",
        "keyring": True,
        "label": True,
        "log_driver": "k8s-file",
        "log_size_max": -1,
        "log_tag": "",
        "mounts": [],
        "netns": "private",
        "no_hosts": False,
        "no_hostname": False,
        "oom_score_adj": 0,
        "pidns": "private",
        "pids_limit": 2048,
        "prepare_volume_on_create": False,
        "privileged": False,
        "read_only": False,
        "seccomp_profile": "",
        "shm_size": "65536k",
        "tz": "",
        "umask": "0022",
        "userns": "",
        "userns_size": 65536,
        "utsns": "private",
        "volumes": [],
    },
    "network": {
        "default_network": "podman",
        "default_rootless_network_cmd": "pasta",
        "default_subnet": "10.88.0.0/16",
        "default_subnet_pools": [
            {"base": "10.89.0.0/16", "size": 24},
            {"base": "10.90.0.0/15", "size": 24},
            {"base": "10.92.0.0/14", "size": 24},
            {"base": "10.96.0.0/11", "size": 24},
            {"base": "10.128.0.0/9", "size": 24},
        ],
        "network_config_dir": "",
        "pasta_options": [],
        "resolver": "",
    },
    "engine": {
        "add_compression": [],
        "cdi_spec_dirs": ["/etc/cdi", "/var/run/cdi"],
        "cgroup_manager": "",
        "compose_providers": [],
        "compose_warning_logs": True,
        "compression_format": "gzip",
        "compression_level": -1,
        "detach_keys": "ctrl-p,ctrl-q",
        "env": [],
        "events_logfile_max_size": "1m",
        "events_logfile_path": "",
        "events_logger": "file",
        "exit_command_delay": 300,
        "healthcheck_events": True,
        "helper_binaries_dir": [
            "/usr/local/libexec/podman",
            "/usr/libexec/podman",
            "/usr/local/lib/podman",
            "/usr/lib/podman",
        ],
        "hooks_dir": ["/usr/share/containers/oci/hooks.d"],
        "image_default_format": "",
        "image_default_transport": "docker://",
        "image_parallel_copies": 0,
        "image_volume_mode": "anonymous",
        "infra_command": "",
        "infra_image": "",
        "multi_image_archive": False,
        "network_cmd_options": [],
        "network_cmd_path": "",
        "no_pivot_root": False,
        "pod_exit_policy": "continue",
        "pull_policy": "missing",
        "retry": 3,
        "retry_delay": "",
        "runtime": "",
        "runtimes": {},
        "stop_timeout": 10,
        "volume_path": "",
    },
    "secrets": {"driver": "file", "opts": {}},
    "storage": {
        "additionalimagestores": [],
        "driver": "overlay",
        "force_mask": "",
        "graphroot": "",
        "ignore_chown_errors": False,
        "imagestore": "",
        "keep_blobs": False,
        "mount_program": "",
        "mountopt": "",
        "rootless_storage_path": "",
        "runroot": "",
        "sync": "",
        "transient_store": False,
    },
}

_CHOICES = {
    "cgroup_manager": ("", "systemd", "cgroupfs"),
    "cgroupns": ("private", "host"),
    "cgroups": ("enabled", "disabled", "no-conmon", "split"),
    "compression_format": ("gzip", "zstd", "zstd:chunked"),
    "default_rootless_network_cmd": ("pasta", "slirp4netns"),
    "driver": None,
    "events_logger": ("file", "journald", "none"),
    "image_default_format": ("", "oci", "v2s2", "v2s1"),
    "image_volume_mode": ("anonymous", "bind", "tmpfs", "ignore"),
    "log_driver": ("k8s-file", "json-file", "journald", "none", "passthrough", "passthrough-tty"),
    "pod_exit_policy": ("continue", "stop"),
    "resolver": ("", "rootless", "aardvark-dns"),
    "pull_policy": ("always", "missing", "newer", "never"),
}

# Podman's stores, to which its packages set graphroot. Ours lie elsewhere; another place is the administrator's choice.
_PODMAN_STORES = (
    "/var/lib/containers/storage",
    "/run/containers/storage",
    f"/run/user/{os.geteuid()}/containers",
)
_PODMAN_USER_STORES = ("/.local/share/containers/storage",)

_SYSTEM = ("/usr/share/containers", "/etc/containers", "/etc/rootless")


class Config:
    """The merged settings. A table or key that SETTINGS does not have is a KeyError: a bug of the caller."""

    __slots__ = ("_values",)

    def __init__(self, values: Values) -> None:
        self._values = values

    def override(self, table: str, key: str, value: Any) -> None:
        """Put what a global option says above what the files say."""
        self._values[table] = {**self._values.get(table, {}), key: value}

    def _get(self, table: str, key: str) -> Any:
        default = SETTINGS[table][key]
        return self._values.get(table, {}).get(key, default)

    def text(self, table: str, key: str) -> str:
        value = self._get(table, key)
        assert isinstance(value, str), (table, key)
        return value

    def flag(self, table: str, key: str) -> bool:
        value = self._get(table, key)
        assert isinstance(value, bool), (table, key)
        return value

    def number(self, table: str, key: str) -> int:
        value = self._get(table, key)
        assert isinstance(value, int), (table, key)
        return value

    def texts(self, table: str, key: str) -> list[str]:
        value = self._get(table, key)
        assert isinstance(value, list), (table, key)
        return list(value)

    def tables(self, table: str, key: str) -> list[dict[str, Any]]:
        """A list of tables, as default_subnet_pools is one."""
        value = self._get(table, key)
        assert isinstance(value, list), (table, key)
        return [dict(entry) for entry in value]

    def mapping(self, table: str, key: str) -> dict[str, Any]:
        value = self._get(table, key)
        assert isinstance(value, dict), (table, key)
        return dict(value)

    def given(self, table: str, key: str) -> bool:
        """Whether a file sets it."""
        return key in self._values.get(table, {})

    def data_root(self) -> str | None:
        """Where the files put our persistent data, or None for the default place.

        Podman's graphroot tells which disk is meant for images, which matters where the home folder is on a network
        file system; but its folder is Podman's own, so that ours goes below it.
        """
        return self._values.get("storage", {}).get("data_root")

    def run_root(self) -> str | None:
        """Where the files put what is gone after a reboot (runroot), or None for the default place."""
        return self._values.get("storage", {}).get("run_root")


def load(cache: str = "", modules: Sequence[str] = ()) -> Config:
    """Read the settings. `cache` is the private folder in which the parsed result is kept; "" keeps none."""
    files = list(_files(modules))
    stamp = _stamp(files)
    if not stamp:
        return Config({})
    if cache:
        values = _cached(cache, stamp)
        if values is not None:
            return Config(values)
    values = {}
    for path, kind in files:
        _merge_file(values, path, kind)
    if cache:
        _keep(cache, stamp, values)
    return Config(values)


def sources() -> list[str]:
    """The files that are read, the strongest last; for `info` and error reports."""
    return [path for path, _, _, _ in _stamp(list(_files()))]


def find_module(name: str) -> str:
    """The file of `--module NAME`: as it stands where absolute, else the user's before the system's."""
    places = [f"{folder}/containers.conf.modules" for folder in reversed(_SYSTEM[:2])]
    if os.geteuid() != 0:
        places.insert(0, f"{paths.config_home()}/containers/containers.conf.modules")
    found = [name] if name.startswith("/") else [f"{place}/{name}" for place in places]
    for path in found:
        if os.path.isfile(path):
            return path
    raise RootlessError(f'could not resolve module "{name}": there is no {" or ".join(found)}')


def _files(modules: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Every place where a file may be, with its kind, the strongest last."""
    environ = os.environ
    folders = list(_SYSTEM)
    if os.geteuid() != 0:
        home = paths.config_home()
        folders += [f"{home}/containers", f"{home}/rootless"]
    if only := environ.get("CONTAINERS_CONF"):
        yield only, "required"
    else:
        for folder in folders:
            yield f"{folder}/containers.conf", "containers"
            if folder == _SYSTEM[0]:
                continue
            try:
                names = os.listdir(f"{folder}/containers.conf.d")
            except OSError:
                continue
            for name in sorted(names):
                if name.endswith(".conf"):
                    yield f"{folder}/containers.conf.d/{name}", "containers"
    for module in modules:
        yield find_module(module), "required"
    if override := environ.get("CONTAINERS_CONF_OVERRIDE"):
        yield override, "required"
    yield from _storage_files()


def _storage_files() -> Iterator[tuple[str, str]]:
    if only := os.environ.get("CONTAINERS_STORAGE_CONF"):
        yield only, "storage-required"
        return
    # Of Podman's two system files the administrator's hides the vendor's (containers-storage.conf(5)).
    etc = "/etc/containers/storage.conf"
    yield etc if os.path.exists(etc) else "/usr/share/containers/storage.conf", "storage-system"
    yield f"{_SYSTEM[2]}/storage.conf", "storage-own"
    if os.geteuid() != 0:
        home = paths.config_home()
        yield f"{home}/containers/storage.conf", "storage"
        yield f"{home}/rootless/storage.conf", "storage-own"


def may_move_store() -> bool:
    """Whether data_root() or run_root() can be anything but None: a storage.conf is rare, and the settings need not be read to say so."""
    return any(kind.endswith("required") or os.path.exists(path) for path, kind in _storage_files())


def _stamp(files: list[tuple[str, str]]) -> Stamp:
    stamp = []
    for path, kind in files:
        try:
            status = os.stat(path)
        except OSError as error:
            if kind.endswith("required"):
                raise RootlessError(
                    f"{path}: cannot read the configuration file that the environment names: {error.strerror}"
                ) from error
            continue
        stamp.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
    return stamp


def _cached(cache: str, stamp: Stamp) -> Values | None:
    import marshal

    try:
        with open(f"{cache}/config", "rb") as file:
            version, euid, kept, values = marshal.load(file)
    except (OSError, ValueError, EOFError, TypeError):
        return None
    if version != __version__ or euid != os.geteuid() or kept != stamp:
        return None
    return values  # type: ignore[no-any-return]


def _keep(cache: str, stamp: Stamp, values: Values) -> None:
    import marshal

    from rootless import files

    try:
        files.make_private_dir(cache)
        files.write_atomic(
            f"{cache}/config", marshal.dumps((__version__, os.geteuid(), stamp, values))
        )
    except (OSError, RootlessError) as error:
        log.debug(f"{cache}/config: not kept: {error}")


def _merge_file(values: Values, path: str, kind: str) -> None:
    import tomllib

    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise RootlessError(f"{path}: cannot read it: {error}") from error
    except tomllib.TOMLDecodeError as error:
        # tomllib says "... (at line 3, column 7)" itself.
        reason = str(error)
        raise RootlessError(f"{path}: not valid TOML: {reason[:1].lower()}{reason[1:]}") from error
    if kind.startswith("storage"):
        document = {"storage": _flatten_storage(document)}
    for table, entries in document.items():
        known = SETTINGS.get(table)
        if known is None or not isinstance(entries, dict):
            log.debug(f"{path}: [{table}]: not a table of ours, ignored")
            continue
        merged = values.setdefault(table, {})
        for key, value in entries.items():
            if key not in known:
                log.debug(f"{path}: [{table}] {key}: not a key of ours, ignored")
                continue
            merged[key] = _check(path, table, key, value, merged.get(key))
    if kind.startswith("storage"):
        _place(values["storage"], document["storage"], kind)


def _check(path: str, table: str, key: str, value: Any, before: Any) -> Any:
    """Return the value to store, or raise the error that tells what the key expects."""
    default = SETTINGS[table][key]
    wanted = ""
    if isinstance(default, bool):
        if value in ("true", "false"):  # storage.conf writes some switches as strings
            value = value == "true"
        if not isinstance(value, bool):
            wanted = "true or false"
    elif isinstance(default, int):
        if not isinstance(value, int) or isinstance(value, bool):
            wanted = "a whole number"
    elif isinstance(default, str):
        if not isinstance(value, str):
            wanted = "a string"
    elif isinstance(default, dict):
        if not isinstance(value, dict):
            wanted = "a table"
        elif before:
            value = {**before, **value}
    elif not isinstance(value, list):
        wanted = "a list"
    else:
        # `["more", {append=true}]` adds to what earlier files say (containers.conf(5), "Appending to string arrays").
        append = False
        if value and isinstance(value[-1], dict) and set(value[-1]) == {"append"}:
            append = bool(value[-1]["append"])
            value = value[:-1]
        of_tables = bool(default) and isinstance(default[0], dict)
        if not all(isinstance(entry, dict if of_tables else str) for entry in value):
            wanted = "a list of tables" if of_tables else "a list of strings"
        elif append:
            value = (default if before is None else before) + value
    choices = _CHOICES.get(key)
    if not wanted and choices and value not in choices:
        wanted = "one of " + ", ".join(word for word in choices if word)
    if wanted:
        raise RootlessError(f"{path}: [{table}] {key}: {value!r} is not {wanted}")
    return value


def _flatten_storage(document: dict[str, Any]) -> dict[str, Any]:
    """[storage], [storage.options] and [storage.options.overlay] as one table."""
    storage = document.get("storage")
    if not isinstance(storage, dict):
        return {}
    flat = {key: value for key, value in storage.items() if key != "options"}
    options = storage.get("options")
    if isinstance(options, dict):
        overlay = options.get("overlay")
        flat.update((key, value) for key, value in options.items() if not isinstance(value, dict))
        flat.update(overlay if isinstance(overlay, dict) else {})
    return flat


def _place(merged: dict[str, Any], file: dict[str, Any], kind: str) -> None:
    """Derive data_root and run_root from what this storage.conf says."""
    user = os.geteuid() != 0
    if kind == "storage-system" and user:
        # The system's graphroot is root's; for users there is a key of its own.
        for key in ("graphroot", "runroot"):
            if key in file:
                merged.pop(key, None)
    root = merged.get("graphroot", "") if "graphroot" in file else ""
    if (
        user
        and merged.get("rootless_storage_path")
        and "rootless_storage_path" in file
        and not root
    ):
        root = merged["rootless_storage_path"]
    run = merged.get("runroot", "") if "runroot" in file else ""
    for key, name, place in (("graphroot", "data_root", root), ("runroot", "run_root", run)):
        if not place:
            continue
        place = _expanded(place)
        if not place.startswith("/"):
            raise RootlessError(f"storage.conf: {key} {place!r} is not an absolute path")
        if kind == "storage-own":
            merged[name] = place
        elif place not in _PODMAN_STORES and not place.endswith(_PODMAN_USER_STORES):
            merged[name] = f"{place}/rootless"


def _expanded(place: str) -> str:
    """A path with the variables that Podman knows in it; UID is no variable of most environments."""
    for word in ("$UID", "${UID}"):
        place = place.replace(word, str(os.geteuid()))
    return os.path.expandvars(os.path.expanduser(place)).rstrip("/")
