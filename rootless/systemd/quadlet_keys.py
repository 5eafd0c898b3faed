"""The keys of podman-systemd.unit(5), Podman 5.4, and the options that they are, in the order in which they are written.

Kinds: `last` one value as it stands; `each` every line as it stands; `words` every word, C escapes read; `raw` every
word, escapes kept; `pairs` every NAME=VALUE word, the later of a name wins; `flag` true or false; `on` an option only
where true; and `own`, which `quadlet_units` handles itself, at the place where the key stands here. What follows a
space in an option comes before the value.
"""

from __future__ import annotations

LAST, EACH, WORDS, RAW, PAIRS, FLAG, ON, OWN = (
    "last",
    "each",
    "words",
    "raw",
    "pairs",
    "flag",
    "on",
    "own",
)

Key = tuple[str, str]

#: Before the command, and for the name of the unit; no command line's own.
_COMMON: dict[str, Key] = {
    "ContainersConfModule": (OWN, ""),
    "GlobalArgs": (OWN, ""),
    "ServiceName": (OWN, ""),
}
_ARGS: dict[str, Key] = {"PodmanArgs": (OWN, "")}
_LOGS: dict[str, Key] = {"LogDriver": (LAST, "log-driver"), "LogOpt": (RAW, "log-opt")}
_REMAP: dict[str, Key] = {
    "RemapUsers": (OWN, ""),
    "RemapUid": (OWN, ""),
    "RemapGid": (OWN, ""),
    "RemapUidSize": (OWN, ""),
}
_MAPS: dict[str, Key] = {
    "UserNS": (LAST, "userns"),
    "UIDMap": (RAW, "uidmap"),
    "GIDMap": (RAW, "gidmap"),
    "SubUIDMap": (LAST, "subuidname"),
    "SubGIDMap": (LAST, "subgidname"),
    **_REMAP,
}
_HEALTH: dict[str, Key] = {
    "HealthCmd": (LAST, "health-cmd"),
    "HealthInterval": (LAST, "health-interval"),
    "HealthOnFailure": (LAST, "health-on-failure"),
    "HealthLogDestination": (LAST, "health-log-destination"),
    "HealthMaxLogCount": (LAST, "health-max-log-count"),
    "HealthMaxLogSize": (LAST, "health-max-log-size"),
    "HealthRetries": (LAST, "health-retries"),
    "HealthStartPeriod": (LAST, "health-start-period"),
    "HealthTimeout": (LAST, "health-timeout"),
    "HealthStartupCmd": (LAST, "health-startup-cmd"),
    "HealthStartupInterval": (LAST, "health-startup-interval"),
    "HealthStartupRetries": (LAST, "health-startup-retries"),
    "HealthStartupSuccess": (LAST, "health-startup-success"),
    "HealthStartupTimeout": (LAST, "health-startup-timeout"),
}

CONTAINER: dict[str, Key] = {
    **_COMMON,
    "ContainerName": (OWN, ""),
    **_LOGS,
    "CgroupsMode": (OWN, ""),
    "Timezone": (LAST, "tz"),
    "PidsLimit": (LAST, "pids-limit"),
    "ShmSize": (LAST, "shm-size"),
    "Entrypoint": (LAST, "entrypoint"),
    "WorkingDir": (LAST, "workdir"),
    "IP": (LAST, "ip"),
    "IP6": (LAST, "ip6"),
    "HostName": (LAST, "hostname"),
    "StopSignal": (LAST, "stop-signal"),
    "StopTimeout": (LAST, "stop-timeout"),
    "Pull": (LAST, "pull"),
    "NetworkAlias": (EACH, "network-alias"),
    "Ulimit": (EACH, "ulimit"),
    "DNS": (EACH, "dns"),
    "DNSOption": (EACH, "dns-option"),
    "DNSSearch": (EACH, "dns-search"),
    "GroupAdd": (EACH, "group-add"),
    "AddHost": (EACH, "add-host"),
    "Tmpfs": (EACH, "tmpfs"),
    "RunInit": (FLAG, "init"),
    "EnvironmentHost": (FLAG, "env-host"),
    "ReadOnlyTmpfs": (FLAG, "read-only-tmpfs"),
    "Network": (OWN, ""),
    "Notify": (OWN, ""),
    "NoNewPrivileges": (ON, "security-opt=no-new-privileges"),
    "SecurityLabelDisable": (ON, "security-opt label=disable"),
    "SecurityLabelNested": (ON, "security-opt label=nested"),
    "SecurityLabelType": (LAST, "security-opt label=type:"),
    "SecurityLabelFileType": (LAST, "security-opt label=filetype:"),
    "SecurityLabelLevel": (LAST, "security-opt label=level:"),
    "AddDevice": (OWN, ""),
    "SeccompProfile": (LAST, "security-opt seccomp="),
    "DropCapability": (OWN, "cap-drop"),
    "AddCapability": (OWN, "cap-add"),
    "Sysctl": (RAW, "sysctl"),
    "ReadOnly": (FLAG, "read-only"),
    "VolatileTmp": (OWN, ""),
    "User": (OWN, ""),
    "Group": (OWN, ""),
    **_MAPS,
    "Volume": (OWN, ""),
    "AutoUpdate": (LAST, "label io.containers.autoupdate="),
    "ExposeHostPort": (OWN, ""),
    "PublishPort": (EACH, "publish"),
    "Environment": (PAIRS, "env"),
    "Label": (PAIRS, "label"),
    "Annotation": (PAIRS, "annotation"),
    "Mask": (WORDS, "security-opt mask="),
    "Unmask": (WORDS, "security-opt unmask="),
    "EnvironmentFile": (OWN, ""),
    "Secret": (WORDS, "secret"),
    "Mount": (OWN, ""),
    **_HEALTH,
    "Pod": (OWN, ""),
    "StartWithPod": (OWN, ""),
    **_ARGS,
    "Image": (OWN, ""),
    "Rootfs": (OWN, ""),
    "Exec": (OWN, ""),
}

NETWORK: dict[str, Key] = {
    **_COMMON,
    "DisableDNS": (FLAG, "disable-dns"),
    "Internal": (FLAG, "internal"),
    "IPv6": (FLAG, "ipv6"),
    "Driver": (LAST, "driver"),
    "IPAMDriver": (LAST, "ipam-driver"),
    "DNS": (EACH, "dns"),
    "Subnet": (OWN, ""),
    "Gateway": (OWN, ""),
    "IPRange": (OWN, ""),
    "Options": (PAIRS, "opt"),
    "Label": (PAIRS, "label"),
    **_ARGS,
    "NetworkName": (OWN, ""),
}

VOLUME: dict[str, Key] = {
    **_COMMON,
    "Driver": (LAST, "driver"),
    "Image": (OWN, ""),
    "Copy": (OWN, ""),
    "Device": (OWN, ""),
    "Type": (OWN, ""),
    "Options": (OWN, ""),
    "User": (OWN, ""),
    "Group": (OWN, ""),
    "Label": (PAIRS, "label"),
    **_ARGS,
    "VolumeName": (OWN, ""),
}

IMAGE: dict[str, Key] = {
    **_COMMON,
    "Arch": (LAST, "arch"),
    "AuthFile": (LAST, "authfile"),
    "CertDir": (LAST, "cert-dir"),
    "Creds": (LAST, "creds"),
    "DecryptionKey": (LAST, "decryption-key"),
    "OS": (LAST, "os"),
    "Variant": (LAST, "variant"),
    "AllTags": (FLAG, "all-tags"),
    "TLSVerify": (FLAG, "tls-verify"),
    **_ARGS,
    "Image": (OWN, ""),
    "ImageTag": (OWN, ""),
}

BUILD: dict[str, Key] = {
    **_COMMON,
    "Pull": (OWN, ""),
    "Arch": (LAST, "arch"),
    "AuthFile": (LAST, "authfile"),
    "Target": (LAST, "target"),
    "Variant": (LAST, "variant"),
    "TLSVerify": (FLAG, "tls-verify"),
    "ForceRM": (FLAG, "force-rm"),
    "DNS": (EACH, "dns"),
    "DNSOption": (EACH, "dns-option"),
    "DNSSearch": (EACH, "dns-search"),
    "GroupAdd": (EACH, "group-add"),
    "ImageTag": (EACH, "tag"),
    "Annotation": (PAIRS, "annotation"),
    "Environment": (PAIRS, "env"),
    "Label": (PAIRS, "label"),
    "Network": (OWN, ""),
    "Secret": (WORDS, "secret"),
    "Volume": (OWN, ""),
    "File": (LAST, "file"),
    **_ARGS,
    "SetWorkingDirectory": (OWN, ""),
}

KUBE: dict[str, Key] = {
    **_COMMON,
    "ExitCodePropagation": (OWN, ""),
    **_LOGS,
    "UserNS": (LAST, "userns"),
    **_REMAP,
    "Network": (OWN, ""),
    "AutoUpdate": (OWN, ""),
    "ConfigMap": (OWN, ""),
    "PublishPort": (EACH, "publish"),
    **_ARGS,
    "Yaml": (OWN, ""),
    "KubeDownForce": (OWN, ""),
    "SetWorkingDirectory": (OWN, ""),
}

POD: dict[str, Key] = {
    **_COMMON,
    **_MAPS,
    "PublishPort": (EACH, "publish"),
    "Network": (OWN, ""),
    "IP": (LAST, "ip"),
    "IP6": (LAST, "ip6"),
    "ShmSize": (LAST, "shm-size"),
    "NetworkAlias": (EACH, "network-alias"),
    "DNS": (EACH, "dns"),
    "DNSOption": (EACH, "dns-option"),
    "DNSSearch": (EACH, "dns-search"),
    "AddHost": (EACH, "add-host"),
    "Volume": (OWN, ""),
    "PodName": (OWN, ""),
    **_ARGS,
}

#: File kind → (its section, its keys, what its service's name ends with). The order is that of making: what another is
#: named in comes first.
KINDS: dict[str, tuple[str, dict[str, Key], str]] = {
    "image": ("Image", IMAGE, "-image"),
    "volume": ("Volume", VOLUME, "-volume"),
    "network": ("Network", NETWORK, "-network"),
    "build": ("Build", BUILD, "-build"),
    "container": ("Container", CONTAINER, ""),
    "kube": ("Kube", KUBE, ""),
    "pod": ("Pod", POD, "-pod"),
}
QUADLET = ("DefaultDependencies",)
