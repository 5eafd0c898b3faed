"""`rootless info`: what this machine can do and how the engine uses it."""

from __future__ import annotations

from rootless.cli.options import format_option
from rootless.cli.table import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation

OPTIONS = (format_option(),)

#: What templates call a field, where it is not the JSON name with a capital letter: as in Podman's Go.
_GO_NAMES = {
    "cgroupVersion": "CgroupsVersion",
    "cpus": "CPUs",
    "cpuUtilization": "CPUUtilization",
    "gidmap": "GIDMap",
    "idMappings": "IDMappings",
    "ociRuntime": "OCIRuntime",
    "os": "OS",
    "slirp4netns": "Slirp4NetNS",
    "uidmap": "UIDMap",
    "apparmorEnabled": "AppArmorEnabled",
    "capabilities": "DefaultCapabilities",
    "seccompEnabled": "SECCOMPEnabled",
    "seccompProfilePath": "SECCOMPProfilePath",
    "selinuxEnabled": "SELinuxEnabled",
    "container_id": "ContainerID",
    "host_id": "HostID",
}
_TYPES = {
    "host": "*define.HostInfo",
    "store": "*define.StoreInfo",
    "version": "define.Version",
    "distribution": "define.DistributionInfo",
    "security": "define.SecurityInfo",
    "idMappings": "*define.IDMappings",
    "ociRuntime": "*define.OCIRuntimeInfo",
    "remoteSocket": "*define.RemoteSocket",
    "imageStore": "define.ImageStore",
    "containerStore": "define.ContainerStore",
    "cpuUtilization": "*define.CPUUsage",
    "plugins": "define.Plugins",
}
_MAPS = frozenset(("registries", "graphOptions", "graphStatus"))


def main(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.cli.version import facts as version
    from rootless.container.engine import open_engine
    from rootless.container.hostinfo import gather

    facts = gather(open_engine(inv.globals))
    facts["version"] = version()
    form = inv.text("format")
    if form == "json":
        output.line(output.to_json(facts, 2))
    elif form:
        from rootless.cli.template import render

        output.write(render("info", form, fields(facts, "system.infoReport")))
    else:
        from rootless.cli.yaml import dump

        output.write(dump(facts))
    return 0


def fields(value: Any, go_type: str = "struct") -> Any:
    """Facts as a template sees them: by Go's names, while `json` shows the others."""
    from rootless.cli.template import Struct

    if isinstance(value, list):
        return [fields(item, go_type) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {
        key: item if key in _MAPS else fields(item, _TYPES.get(key, "struct"))
        for key, item in value.items()
    }
    methods = {
        _GO_NAMES.get(key) or key[0].upper() + key[1:]: lambda item=item: item
        for key, item in inner.items()
    }
    return Struct(inner, go_type, methods)


COMMAND = Command(
    "[options]",
    main,
    OPTIONS,
    description=(
        "Shows the host, the store, the versions of helpers, and under `limitations` what this machine keeps containers from."
    ),
    examples=("info", "info --format '{{.Store.GraphRoot}}'", "info -f json"),
)
