"""Everything that is known of a container, as the document of Podman 5.4's `container inspect`.

What was asked for comes from the record, what the kernel was told from the bundle's config.json, what is so now from the
kernel. A container that was never started has no config.json yet: its spec is worked out without writing anything.
Benched: no import that one container's document does not need.
"""

from __future__ import annotations

import os

from rootless.container import cgroup_manager, runtimes
from rootless.container.events import stamp
from rootless.container.inspect_network import (
    exposed_ports,
    network_mode,
    network_settings,
    port_bindings,
)
from rootless.container.options import CreateOptions
from rootless.container.status import EXITED, PAUSED, RUNNING
from rootless.files import read_record
from rootless.linux import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.status import Status

    Document = dict[str, Any]

NO_TIME = "0001-01-01T00:00:00Z"

#: Fields that JSON leaves out where they hold nothing; a template still knows them.
OMIT_EMPTY = {
    "": ("OCIConfigPath", "SizeRw", "SizeRootFs"),
    "State": (
        "ConmonPid", "Health", "Checkpointed", "CgroupPath", "CheckpointLog", "CheckpointPath", "RestoreLog",
        "Restored", "StoppedByUser",
    ),
    "Config": (
        "Healthcheck", "StartupHealthCheck", "CreateCommand", "SystemdMode", "Secrets", "ChrootDirs", "sdNotifySocket",
        "ExposedPorts",
    ),
    "Mounts": ("Name", "SubPath"),
}  # fmt: skip

_SIZES = ("SizeRw", "SizeRootFs")


def inspect(engine: Engine, status: Status, *, size: bool = False) -> Document:
    """The whole document, with the fields that OMIT_EMPTY names."""
    record = status.record
    options = CreateOptions.from_json(record["options"])
    image, config = _image(engine, record)
    folder = engine.containers.path(status.id)
    config_path = f"{folder}/config.json"
    try:
        spec: Document = read_record(
            config_path, {"process": dict, "mounts?": list, "linux?": dict, "root?": dict}
        )
    except FileNotFoundError:
        config_path = ""
        spec = _spec_to_be(engine, record, options, config)
    process = spec["process"]
    words = process["args"]
    sets = process.get("capabilities") or {}
    files = _own_files(spec, engine.containers.run_folder(status.id))
    mounts, binds, memory = _mounts(engine, record, spec)
    kept = record.get("image") or {}
    sizes: tuple[int | None, int | None] = (None, None)
    if size:
        from rootless.container.size import sizes_of

        sizes = sizes_of(engine, record, image)
    return {
        "Id": status.id,
        "Created": stamp(record["created"]),
        "Path": words[0],
        "Args": words[1:],
        "State": _state(engine, status, spec),
        "Image": kept.get("id", ""),
        "ImageDigest": image.digest if image is not None else "",
        "ImageName": kept.get("name", ""),
        "Rootfs": options.image if options.rootfs else "",
        "Pod": record.get("pod", ""),
        "ResolvConfPath": files.get("/etc/resolv.conf", ""),
        "HostnamePath": files.get("/etc/hostname", ""),
        "HostsPath": files.get("/etc/hosts", ""),
        "StaticDir": folder,
        "OCIConfigPath": config_path,
        "OCIRuntime": runtimes.name_of(record),
        "ConmonPidFile": options.conmon_pidfile,
        "PidFile": options.pidfile,
        "Name": record["name"],
        "RestartCount": int((status.live or status.state).get("restarts", 0)),
        "Driver": "vfs" if record.get("root") == "copy" else "overlay",
        "MountLabel": (spec.get("linux") or {}).get("mountLabel", ""),
        "ProcessLabel": process.get("selinuxLabel", ""),
        "AppArmorProfile": process.get("apparmorProfile", ""),
        "EffectiveCaps": sets.get("effective") or None,
        "BoundingCaps": sets.get("bounding") or None,
        "ExecIDs": _exec_ids(engine, status),
        "GraphDriver": _graph_driver(engine, record, image, options, folder),
        "SizeRw": sizes[0],
        "SizeRootFs": sizes[1],
        "Mounts": mounts,
        "Dependencies": dependencies(engine, record, options),
        "NetworkSettings": _network_settings(engine, status, options, config),
        "Namespace": "",
        "IsInfra": bool(record.get("infra")),
        "IsService": False,
        "KubeExitCodePropagation": "invalid",
        "lockNumber": 0,
        "Config": _config(record, options, config, spec),
        "HostConfig": _host_config(engine, record, options, spec, binds, memory),
        "UseImageHosts": options.hosts_file == "image",
        "UseImageHostname": False,
    }


def without_empty(document: Document) -> Document:
    """The document as JSON shows it."""
    for section, names in OMIT_EMPTY.items():
        if section and section not in document:
            continue
        parts = document[section] if section else document
        for part in parts if isinstance(parts, list) else [parts]:
            for name in names:
                # A size of 0 is one; None says that it was not asked for.
                if not part.get(name) and not (name in _SIZES and part.get(name) == 0):
                    part.pop(name, None)
    settings = document.get("Config") or {}
    for key in ("Healthcheck", "StartupHealthCheck"):
        if settings.get(key):
            settings[key] = {name: value for name, value in settings[key].items() if value}
    return document


def _image(engine: Engine, record: Document) -> tuple[Any, Document]:
    """The image and its execution parameters; one that is gone meanwhile is no reason to show nothing."""
    kept = record.get("image")
    image = engine.images.get(kept["id"]) if kept else None
    return image, (image.config.get("config") or {}) if image is not None else {}


def _spec_to_be(
    engine: Engine, record: Document, options: CreateOptions, config: Document
) -> Document:
    """What config.json would say, without the parts that are known at the start only."""
    from rootless.container.facts import cgroup_version, own_limits
    from rootless.container.spec import HostFacts, make_spec

    host = HostFacts(record["id"], rootfs=f"{engine.containers.path(record['id'])}/rootfs")
    host.name = record["name"]
    host.node = os.uname().nodename
    host.cgroup_version = cgroup_version()
    host.env = os.environ
    host.rlimits = own_limits()
    for mount in record.get("mounts") or []:
        copy = dict(mount)
        if copy["type"] == "volume":
            copy.setdefault("path", f"{engine.paths.volume(copy['source'])}/_data")
        elif copy["type"] == "image":
            host.image_layers[copy["source"]] = [copy["source"]]
        host.mounts.append(copy)  # type: ignore[arg-type]
    for kind, mode in _modes(options).items():
        if mode.startswith("container:"):
            host.namespaces[kind] = mode
    return make_spec(options, config, host)


def _modes(options: CreateOptions) -> dict[str, str]:
    return {
        "user": options.userns,
        "pid": options.pid,
        "network": options.network,
        "ipc": options.ipc,
        "uts": options.uts,
        "cgroup": options.cgroupns,
    }


def dependencies(engine: Engine, record: Document, options: CreateOptions) -> list[str]:
    """The ids of the containers that this one needs."""
    names = list(options.requires)
    names += [
        mode.partition(":")[2] for mode in _modes(options).values() if mode.startswith("container:")
    ]
    found: list[str] = []
    for name in names:
        try:
            identity = engine.containers.lookup(name)
        except Exception:  # one that is gone is shown as it was written
            identity = name
        if identity not in found:
            found.append(identity)
    return found


def _time(value_ns: int) -> str:
    return stamp(value_ns) if value_ns else NO_TIME


def _health(engine: Engine, status: Status) -> Document | None:
    """What the checks of this run, or of the last one, have come to."""
    kept: Document | None = status.state.get("health")
    if status.live and status.record.get("health"):
        from rootless.container import healthcheck

        return healthcheck.read(engine, status.id) or kept
    return kept


def _state(engine: Engine, status: Status, spec: Document) -> Document:
    live, state = status.live or {}, status.state
    running = status.word in (RUNNING, PAUSED)
    return {
        "OciVersion": spec.get("ociVersion", ""),
        "Status": status.word,
        "Running": status.word == RUNNING,
        "Paused": status.word == PAUSED,
        "Restarting": live.get("phase") == "restarting",
        "OOMKilled": bool(state.get("oom")) and not running,
        "Dead": False,
        "Pid": status.pid,
        "ConmonPid": int(live["monitor"][0]) if live and status.word != EXITED else 0,
        "ExitCode": 0 if running else status.exit_code,
        "Error": "" if running else str(state.get("error", "")),
        "StartedAt": _time(int(live.get("started_at") or state.get("started_at") or 0)),
        "FinishedAt": _time(int(state.get("finished_at") or 0)),
        "Health": _health(engine, status),
        "Checkpointed": False,
        "CgroupPath": live.get("cgroup", "").removeprefix("/sys/fs/cgroup"),
        "CheckpointedAt": NO_TIME,
        "RestoredAt": NO_TIME,
        "CheckpointLog": "",
        "CheckpointPath": "",
        "RestoreLog": "",
        "Restored": False,
        "StoppedByUser": bool(state.get("stopped_by_user")),
    }


def _own_files(spec: Document, run_folder: str) -> dict[str, str]:
    """The files that the engine made for this container, by their place in it."""
    return {
        mount["destination"]: mount["source"]
        for mount in spec["mounts"]
        if str(mount.get("source", "")).startswith(f"{run_folder}/")
    }


def _exec_ids(engine: Engine, status: Status) -> list[str]:
    if status.live is None:
        return []
    try:
        return sorted(os.listdir(f"{engine.containers.run_folder(status.id)}/exec"))
    except OSError:
        return []


def _graph_driver(
    engine: Engine, record: Document, image: Any, options: CreateOptions, folder: str
) -> Document:
    kind = record.get("root")
    if kind == "copy":
        return {"Name": "vfs", "Data": None}
    if kind == "folder" or (options.rootfs and not options.rootfs_overlay):
        return {"Name": "overlay", "Data": None}
    lowers = (
        [options.image]
        if options.rootfs
        else engine.images.lowers(image)
        if image is not None
        else []
    )
    return {
        "Name": "overlay",
        "Data": {
            "LowerDir": ":".join(lowers),
            "UpperDir": f"{folder}/upper",
            "WorkDir": f"{folder}/work",
        },
    }


_PROPAGATION = frozenset(
    ("shared", "rshared", "private", "rprivate", "slave", "rslave", "unbindable", "runbindable")
)


def _mounts(
    engine: Engine, record: Document, spec: Document
) -> tuple[list[Document], list[str], dict[str, str]]:
    """(Mounts, HostConfig.Binds, HostConfig.Tmpfs): volumes before binds, as Podman lists them."""
    told = {mount["destination"]: mount for mount in spec["mounts"]}
    volumes: list[Document] = []
    others: list[Document] = []
    volume_binds: list[str] = []
    binds: list[str] = []
    memory: dict[str, str] = {}
    for mount in record.get("mounts") or []:
        place, kind = mount["destination"], mount["type"]
        entry = told.get(place) or {}
        words: list[str] = entry.get("options") or mount["options"]
        if kind in ("tmpfs", "ramfs", "devpts"):
            if kind == "tmpfs":
                memory[place] = ",".join(words)
            continue
        shown: Document = {"Type": kind}
        if kind == "volume":
            shown["Name"] = mount["source"]
            shown["Source"] = (
                mount.get("path")
                or entry.get("source")
                or f"{engine.paths.volume(mount['source'])}/_data"
            )
        else:
            shown["Source"] = mount["source"]
        shown["Destination"] = place
        shown["Driver"] = "local" if kind == "volume" else ""
        shown.update(_shown_options(mount["options"], words))
        shown["SubPath"] = mount.get("subpath", "")
        (volumes if kind == "volume" else others).append(shown)
        if kind in ("volume", "bind"):
            (volume_binds if kind == "volume" else binds).append(
                f"{mount['source']}:{place}:{','.join(words)}"
            )
    return volumes + others, volume_binds + binds, memory


def _shown_options(asked: list[str], words: list[str]) -> Document:
    mode, writable, propagation, rest = "", True, "", []
    for word in words:
        if word in ("ro", "rw"):
            writable = word == "rw"
        elif word in _PROPAGATION:
            propagation = word
        else:
            rest.append(word)
    for word in asked:
        if word in ("z", "Z"):
            mode = word
    return {"Mode": mode, "Options": rest, "RW": writable, "Propagation": propagation}


# network


def _network_settings(
    engine: Engine, status: Status, options: CreateOptions, config: Document
) -> Document:
    mode = network_mode(engine, options)
    if mode.startswith("container:"):
        from rootless.container.status import status_of
        from rootless.errors import RootlessError

        try:
            other = status_of(engine, engine.containers.lookup(mode.partition(":")[2]))
            theirs = CreateOptions.from_json(other.record["options"])
            if not theirs.network.startswith("container:"):
                return _network_settings(engine, other, theirs, _image(engine, other.record)[1])
        except RootlessError:
            pass
    return network_settings(engine, status, options, config)


# what was asked for


def _config(record: Document, options: CreateOptions, config: Document, spec: Document) -> Document:
    from rootless.container.spec import is_systemd

    process = spec["process"]
    command = options.command or ([] if options.entrypoint is not None else config.get("Cmd") or [])
    entrypoint = options.entrypoint if options.entrypoint is not None else config.get("Entrypoint")
    ports = record.get("ports") or record["options"].get("publish") or []
    attached = [one.lower() for one in options.attach]
    return {
        "Hostname": spec.get("hostname") or os.uname().nodename,
        "Domainname": "",
        "User": options.user or config.get("User") or "",
        "AttachStdin": "stdin" in attached,
        "AttachStdout": "stdout" in attached,
        "AttachStderr": "stderr" in attached,
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "StdinOnce": False,
        "Env": process.get("env") or [],
        "Cmd": command or None,
        "Image": (record.get("image") or {}).get("name", ""),
        "Volumes": None,
        "WorkingDir": process.get("cwd", "/"),
        "Entrypoint": entrypoint or None,
        "OnBuild": None,
        "Labels": record.get("labels") or None,
        "Annotations": spec.get("annotations") or None,
        "StopSignal": signals.name(record["stop_signal"]),
        "Healthcheck": record.get("health"),
        "StartupHealthCheck": options.health_startup,
        "HealthcheckOnFailureAction": options.health_on_failure,
        "HealthLogDestination": options.health_log_destination,
        "HealthcheckMaxLogCount": options.health_max_log_count,
        "HealthcheckMaxLogSize": options.health_max_log_size,
        "CreateCommand": options.create_command,
        "SystemdMode": is_systemd(options, config),
        "Umask": options.umask,
        "Secrets": None,
        "Timeout": options.timeout,
        "StopTimeout": record["stop_timeout"],
        "Passwd": options.passwd,
        "ChrootDirs": None,
        "sdNotifyMode": options.sdnotify,
        "sdNotifySocket": "",
        "ExposedPorts": {word: {} for word in exposed_ports(options, config, ports)},
    }


def _namespace_mode(mode: str, spec: Document, kind: str, default: str) -> str:
    if mode:
        return mode
    for entry in (spec.get("linux") or {}).get("namespaces") or []:
        if entry["type"] == kind:
            return f"ns:{entry['path']}" if entry.get("path") else default
    return "host"


def _host_config(
    engine: Engine,
    record: Document,
    options: CreateOptions,
    spec: Document,
    binds: list[str],
    memory: dict[str, str],
) -> Document:
    linux = spec.get("linux") or {}
    resources = linux.get("resources") or {}
    cpu, mem = resources.get("cpu") or {}, resources.get("memory") or {}
    block = resources.get("blockIO") or {}
    added, dropped = _capability_changes(options, spec)
    annotations = spec.get("annotations") or None
    period, quota = int(cpu.get("period", 0)), int(cpu.get("quota", 0))
    limit = record.get("log_max_size", 0)
    return {
        "Binds": binds,
        "CgroupManager": cgroup_manager.effective(engine),
        "CgroupMode": _namespace_mode(options.cgroupns, spec, "cgroup", "private"),
        "ContainerIDFile": options.cidfile,
        "LogConfig": {
            "Type": options.log_driver or engine.config.text("containers", "log_driver"),
            "Config": {"max-file": str(options.log_files)} if options.log_files else None,
            "Path": "" if options.log_driver in ("none", "journald", "passthrough") else record.get("log_path", ""),
            "Tag": options.log_tag,
            "Size": _binary_size(limit) if limit > 0 else "0B",
        },
        "NetworkMode": network_mode(engine, options),
        "PortBindings": port_bindings(record.get("ports") or record["options"].get("publish") or []),
        "RestartPolicy": {"Name": options.restart or "no", "MaximumRetryCount": options.restart_tries},
        "AutoRemove": options.rm,
        "AutoRemoveImage": options.rmi,
        "Annotations": annotations,
        "VolumeDriver": "",
        "VolumesFrom": [
            f"{name}:{','.join(words)}" if words else name for name, words in options.volumes_from
        ] or None,
        "CapAdd": added,
        "CapDrop": dropped,
        "Dns": options.dns,
        "DnsOptions": options.dns_option,
        "DnsSearch": options.dns_search,
        "ExtraHosts": options.add_host,
        "HostsFile": options.hosts_file,
        "GroupAdd": options.group_add,
        "IpcMode": options.ipc or "shareable",
        "Cgroup": "",
        "Cgroups": "disabled" if options.cgroups == "disabled" else "default",
        "Links": None,
        "OomScoreAdj": spec["process"].get("oomScoreAdj", 0),
        "PidMode": _namespace_mode(options.pid, spec, "pid", "private"),
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": bool((spec.get("root") or {}).get("readonly")),
        "SecurityOpt": options.security_opt,
        "Tmpfs": memory,
        "UTSMode": _namespace_mode(options.uts, spec, "uts", "private"),
        "UsernsMode": _userns_mode(options.userns),
        "ShmSize": options.shm_size,
        "Runtime": "oci",
        "ConsoleSize": [
            (spec["process"].get("consoleSize") or {}).get("height", 0),
            (spec["process"].get("consoleSize") or {}).get("width", 0),
        ],
        "Isolation": "",
        "CpuShares": cpu.get("shares", 0),
        "Memory": mem.get("limit", 0),
        "NanoCpus": quota * 1_000_000_000 // period if quota > 0 and period else 0,
        "CgroupParent": options.cgroup_parent,
        "BlkioWeight": block.get("weight", 0),
        "BlkioWeightDevice": _weights(options.blkio_weight_device, "Weight"),
        "BlkioDeviceReadBps": _weights(options.device_read_bps, "Rate"),
        "BlkioDeviceWriteBps": _weights(options.device_write_bps, "Rate"),
        "BlkioDeviceReadIOps": _weights(options.device_read_iops, "Rate"),
        "BlkioDeviceWriteIOps": _weights(options.device_write_iops, "Rate"),
        "CpuPeriod": period,
        "CpuQuota": quota,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": cpu.get("cpus", ""),
        "CpusetMems": cpu.get("mems", ""),
        "Devices": [
            {
                "PathOnHost": device["source"],
                "PathInContainer": device["path"],
                "CgroupPermissions": device["permissions"],
            }
            for device in options.devices
        ],
        "DiskQuota": 0,
        "KernelMemory": 0,
        "MemoryReservation": mem.get("reservation", 0),
        "MemorySwap": mem.get("swap", 0),
        "MemorySwappiness": 0,
        "OomKillDisable": False,
        "PidsLimit": (resources.get("pids") or {}).get("limit", 0),
        "Ulimits": [
            {"Name": one["type"], "Soft": _signed(one["soft"]), "Hard": _signed(one["hard"])}
            for one in spec["process"].get("rlimits") or []
        ],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "CgroupConf": options.cgroup_conf or None,
    }  # fmt: skip


def _userns_mode(mode: str) -> str:
    if mode in ("", "host"):
        return ""
    return mode if mode.startswith(("container:", "ns:")) else "private"


def _signed(limit: int) -> int:
    return limit - (1 << 64) if limit >= 1 << 63 else limit


def _binary_size(size: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.4g}{unit}"
        size /= 1024  # type: ignore[assignment]
    return ""


def _weights(values: dict[str, int], name: str) -> list[Document] | None:
    return [{"Path": path, name: value} for path, value in values.items()] or None


def _capability_changes(options: CreateOptions, spec: Document) -> tuple[list[str], list[str]]:
    """What the container has more and less than the default set, as far as it is not privileged."""
    if options.privileged:
        return [], []
    from rootless.runtime.capabilities import DEFAULT

    usual = {name if name.startswith("CAP_") else f"CAP_{name}" for name in DEFAULT}
    bounding = (spec["process"].get("capabilities") or {}).get("bounding") or []
    return sorted(set(bounding) - usual), sorted(usual - set(bounding))
