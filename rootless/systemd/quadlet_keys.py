"""The keys of podman-systemd.unit(5), Podman 5.4, and the options that they are.

Kinds: `last` one value as it stands; `each` every line as it stands; `words` every word; `pairs` every NAME=VALUE word,
the later of a name wins; `flag` true or false; and those that `quadlet` handles itself.
"""

from __future__ import annotations

LAST, EACH, WORDS, PAIRS, FLAG, ARGS, OWN = "last", "each", "words", "pairs", "flag", "args", "own"

Key = tuple[str, str]

_COMMON: dict[str, Key] = {
    "ContainersConfModule": (OWN, ""),
    "GlobalArgs": (OWN, ""),
    "PodmanArgs": (ARGS, ""),
    "ServiceName": (OWN, ""),
}

CONTAINER: dict[str, Key] = {
    "ContainerName": (OWN, ""),
    "Image": (OWN, ""),
    "Rootfs": (OWN, ""),
    "CgroupsMode": (OWN, ""),
    "Exec": (OWN, ""),
    "Notify": (OWN, ""),
    "Network": (OWN, ""),
    "Volume": (OWN, ""),
    "Mount": (OWN, ""),
    "User": (OWN, ""),
    "Group": (OWN, ""),
    "Environment": (PAIRS, "env"),
    "EnvironmentFile": (OWN, ""),
    "EnvironmentHost": (FLAG, "env-host"),
    "Label": (PAIRS, "label"),
    "Annotation": (PAIRS, "annotation"),
    "AutoUpdate": (OWN, ""),
    "AddCapability": (WORDS, "cap-add"),
    "AddDevice": (OWN, ""),
    "AddHost": (EACH, "add-host"),
    "DNS": (EACH, "dns"),
    "DNSOption": (EACH, "dns-option"),
    "DNSSearch": (EACH, "dns-search"),
    "DropCapability": (WORDS, "cap-drop"),
    "Entrypoint": (LAST, "entrypoint"),
    "ExposeHostPort": (EACH, "expose"),
    "GIDMap": (WORDS, "gidmap"),
    "GroupAdd": (EACH, "group-add"),
    "HealthCmd": (LAST, "health-cmd"),
    "HealthInterval": (LAST, "health-interval"),
    "HealthLogDestination": (LAST, "health-log-destination"),
    "HealthMaxLogCount": (LAST, "health-max-log-count"),
    "HealthMaxLogSize": (LAST, "health-max-log-size"),
    "HealthOnFailure": (LAST, "health-on-failure"),
    "HealthRetries": (LAST, "health-retries"),
    "HealthStartPeriod": (LAST, "health-start-period"),
    "HealthStartupCmd": (LAST, "health-startup-cmd"),
    "HealthStartupInterval": (LAST, "health-startup-interval"),
    "HealthStartupRetries": (LAST, "health-startup-retries"),
    "HealthStartupSuccess": (LAST, "health-startup-success"),
    "HealthStartupTimeout": (LAST, "health-startup-timeout"),
    "HealthTimeout": (LAST, "health-timeout"),
    "HostName": (LAST, "hostname"),
    "IP": (LAST, "ip"),
    "IP6": (LAST, "ip6"),
    "LogDriver": (LAST, "log-driver"),
    "LogOpt": (EACH, "log-opt"),
    "Mask": (LAST, "security-opt=mask"),
    "NetworkAlias": (EACH, "network-alias"),
    "NoNewPrivileges": (OWN, ""),
    "PidsLimit": (LAST, "pids-limit"),
    "Pod": (OWN, ""),
    "PublishPort": (EACH, "publish"),
    "Pull": (LAST, "pull"),
    "ReadOnly": (FLAG, "read-only"),
    "ReadOnlyTmpfs": (FLAG, "read-only-tmpfs"),
    "RemapGid": (OWN, ""),
    "RemapUid": (OWN, ""),
    "RemapUidSize": (OWN, ""),
    "RemapUsers": (OWN, ""),
    "RunInit": (FLAG, "init"),
    "SeccompProfile": (LAST, "security-opt=seccomp"),
    "Secret": (WORDS, "secret"),
    "SecurityLabelDisable": (OWN, ""),
    "SecurityLabelFileType": (LAST, "security-opt=label=filetype:"),
    "SecurityLabelLevel": (LAST, "security-opt=label=level:"),
    "SecurityLabelNested": (OWN, ""),
    "SecurityLabelType": (LAST, "security-opt=label=type:"),
    "ShmSize": (LAST, "shm-size"),
    "StartWithPod": (OWN, ""),
    "StopSignal": (LAST, "stop-signal"),
    "StopTimeout": (LAST, "stop-timeout"),
    "SubGIDMap": (LAST, "subgidname"),
    "SubUIDMap": (LAST, "subuidname"),
    "Sysctl": (WORDS, "sysctl"),
    "Timezone": (LAST, "tz"),
    "Tmpfs": (EACH, "tmpfs"),
    "UIDMap": (WORDS, "uidmap"),
    "Ulimit": (EACH, "ulimit"),
    "Unmask": (LAST, "security-opt=unmask"),
    "UserNS": (LAST, "userns"),
    "VolatileTmp": (OWN, ""),
    "WorkingDir": (LAST, "workdir"),
    **_COMMON,
}

NETWORK: dict[str, Key] = {
    "NetworkName": (OWN, ""),
    "DisableDNS": (FLAG, "disable-dns"),
    "DNS": (EACH, "dns"),
    "Driver": (LAST, "driver"),
    "Subnet": (OWN, ""),
    "Gateway": (OWN, ""),
    "IPRange": (OWN, ""),
    "Internal": (FLAG, "internal"),
    "IPAMDriver": (LAST, "ipam-driver"),
    "IPv6": (FLAG, "ipv6"),
    "Options": (PAIRS, "opt"),
    "Label": (PAIRS, "label"),
    **_COMMON,
}

VOLUME: dict[str, Key] = {
    "VolumeName": (OWN, ""),
    "Driver": (LAST, "driver"),
    "Copy": (OWN, ""),
    "Device": (OWN, ""),
    "Type": (OWN, ""),
    "Options": (OWN, ""),
    "User": (OWN, ""),
    "Group": (OWN, ""),
    "Image": (OWN, ""),
    "Label": (PAIRS, "label"),
    **_COMMON,
}

IMAGE: dict[str, Key] = {
    "Image": (OWN, ""),
    "ImageTag": (OWN, ""),
    "AllTags": (FLAG, "all-tags"),
    "Arch": (LAST, "arch"),
    "AuthFile": (LAST, "authfile"),
    "CertDir": (LAST, "cert-dir"),
    "Creds": (LAST, "creds"),
    "DecryptionKey": (LAST, "decryption-key"),
    "OS": (LAST, "os"),
    "TLSVerify": (FLAG, "tls-verify"),
    "Variant": (LAST, "variant"),
    **_COMMON,
}

#: File kind → (its section, its keys).
KINDS: dict[str, tuple[str, dict[str, Key]]] = {
    "container": ("Container", CONTAINER),
    "volume": ("Volume", VOLUME),
    "network": ("Network", NETWORK),
    "image": ("Image", IMAGE),
}
#: Kinds whose commands the engine has not got yet, and why the file is refused.
REFUSED = {
    "pod": "pods are not available in this version",
    "kube": "`kube play` is not available in this version",
    "build": "`build` is not available in this version; build elsewhere and use an .image file",
}
QUADLET = ("DefaultDependencies",)
