"""What each kind of quadlet file becomes: podman-systemd.unit(5), and Podman 5.4's generator where that is silent."""

from __future__ import annotations

import os

from rootless.systemd.quadlet_file import QuadletError, Value, split
from rootless.systemd.quadlet_units import Draft


class Builder(Draft):
    """One file becoming one service."""

    __slots__ = ()

    def make(self) -> None:
        if self.kind == "container":
            self._container()
        elif self.kind == "volume":
            self._volume()
        elif self.kind == "network":
            self._network()
        elif self.kind == "image":
            self._image()
        elif self.kind == "build":
            self._build()
        elif self.kind == "kube":
            self._kube()
        else:
            self._pod()

    def _service(self) -> bool:
        """What units with a container have in common; whether it is done when its command is."""
        kind = self.source.last("Service", "Type")
        if kind is not None and kind.text not in ("notify", "oneshot"):
            raise kind.fail(f"invalid service Type '{kind.text}': must be notify or oneshot")
        mode = self.source.last("Service", "KillMode")
        if mode is not None and mode.text not in ("mixed", "control-group"):
            raise mode.fail(f"invalid KillMode '{mode.text}': must be mixed or control-group")
        self._add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n")
        self._default("KillMode", "mixed")
        self._add("Unit", "RequiresMountsFor", "%t/rootless")
        return kind is not None and kind.text == "oneshot"

    def _container(self) -> None:
        source = self.source
        image, rootfs = source.last("Container", "Image"), source.last("Container", "Rootfs")
        if image is None and rootfs is None:
            raise QuadletError(f"{source.path}: no Image or Rootfs key specified")
        if image is not None and rootfs is not None:
            raise rootfs.fail("the Image And Rootfs keys conflict can not be specified together")
        rest: list[str] = []
        if image is not None:
            rest.append(self._image_of(image))
        elif rootfs is not None:
            rest += ["--rootfs", rootfs.text]
        oneshot = self._service()
        stop = [*self._base(), "rm", "-v", "-f", "-i", "--cidfile=%t/%N.cid"]
        # One that a crash of all has left behind would stop the next start.
        self._add("Service", "ExecStartPre", "-/bin/rm -f %t/%N.cid")
        self._command("ExecStop", stop)
        self._command("ExecStopPost", stop, "-")
        self._add("Service", "Delegate", "yes")
        if not oneshot:
            self._default("Type", "notify")
            self._set("NotifyAccess", "all")
        self._default("SyslogIdentifier", "%N")
        words = [*self._base(), "run", "--name", self._name(), "--cidfile=%t/%N.cid"]
        words += ["--replace", "--rm", *self._options(), *rest]
        command = source.last("Container", "Exec")
        if command is not None:
            raw = [value for key, value in source.keys("Container") if key == "Exec"][-1]
            words += split(raw)
        self._command("ExecStart", words)

    def _image_of(self, value: Value) -> str:
        """An image, be it named or what an .image or .build file makes."""
        if value.text.endswith((".image", ".build")):
            return self._known(value, value.text, "image")
        if not _is_full(value.text):
            self.all.warnings.append(
                f"{value.place}: {value.text} is not a fully qualified image name: which registry it comes from is for "
                "registries.conf to say"
            )
        return value.text

    def _oneshot(self, words: list[str], *, remain: bool = True) -> None:
        self._command("ExecStart", words)
        self._default("SyslogIdentifier", "%N")
        self._default("Type", "oneshot")
        if remain:
            self._default("RemainAfterExit", "yes")

    def _volume(self) -> None:
        self._add("Unit", "RequiresMountsFor", "%t/rootless")
        words = [*self._base(), "volume", "create", "--ignore"]
        device, kind = self.source.last("Volume", "Device"), self.source.last("Volume", "Type")
        options, image = self.source.last("Volume", "Options"), self.source.last("Volume", "Image")
        own: list[str] = []
        if self._text("Driver") == "image":
            if image is None:
                raise QuadletError(
                    f"{self.source.path}: the key Image is mandatory when using the image driver"
                )
            own = ["--opt", f"image={self._image_of(image)}"]
        else:
            mount = [
                f"{what}={self._number(key)}"
                for key, what in (("User", "uid"), ("Group", "gid"))
                if self._text(key)
            ]
            copy = self.source.flag("Volume", "Copy")
            if copy is not None:
                own += ["--opt", "copy" if copy else "nocopy"]
            if device is not None:
                own += ["--opt", f"device={device.text}"]
            for key, value in (("Type", kind), ("Options", options)):
                if value is not None and device is None:
                    raise value.fail(f"key {key} can't be used without Device")
            if kind is not None:
                own += ["--opt", f"type={kind.text}"]
            if options is not None:
                mount.append(options.text)
            if mount:
                own += ["--opt", f"o={','.join(mount)}"]
        # The driver's options come before labels, as the table says of its first key.
        found = self._options()
        at = 2 if self._text("Driver") else 0
        self._oneshot([*words, *found[:at], *own, *found[at:], self._name()])

    def _number(self, key: str) -> str:
        text = self._text(key)
        if text.isdecimal() or text.startswith("%"):
            return text
        import grp
        import pwd

        try:
            return str(pwd.getpwnam(text).pw_uid if key == "User" else grp.getgrnam(text).gr_gid)
        except KeyError:
            value = self.source.last(self.section, key)
            assert value is not None
            raise value.fail(f"{key}={text}: there is no such {key.lower()}") from None

    def _network(self) -> None:
        self._add("Unit", "RequiresMountsFor", "%t/rootless")
        words = [*self._base(), "network", "create", "--ignore", *self._options()]
        self._oneshot([*words, self._name()])

    def _image(self) -> None:
        image = self.source.last("Image", "Image")
        if image is None:
            raise QuadletError(f"{self.source.path}: no Image key specified")
        if not _is_full(image.text):
            self._image_of(image)  # for its warning
        self._add("Unit", "RequiresMountsFor", "%t/rootless")
        self._oneshot([*self._base(), "image", "pull", *self._options(), image.text])

    def _build(self) -> None:
        if not self._text("ImageTag"):
            raise QuadletError(f"{self.source.path}: no ImageTag key specified")
        self._add("Unit", "RequiresMountsFor", "%t/rootless")
        words = [*self._base(), "build", *self._options()]
        context = self._working_directory()
        folder = next(
            (
                value.text
                for key, value in self._group("Service").lines
                if key == "WorkingDirectory"
            ),
            "",
        )
        file = self._text("File")
        if not folder and not file and not context:
            raise QuadletError(
                f"{self.source.path}: neither SetWorkingDirectory, nor File key specified"
            )
        if context:
            words.append(context)
        elif not file.startswith("/") and not _is_url(file):
            if not folder:
                value = self.source.last("Build", "File")
                assert value is not None
                raise value.fail(
                    "relative path in File key requires SetWorkingDirectory key to be set"
                )
            words.append(folder)
        self._oneshot(words, remain=False)

    def _working_directory(self) -> str:
        """Set the unit's WorkingDirectory= as asked; the build's context, where SetWorkingDirectory= is one."""
        value = self.source.last(self.section, "SetWorkingDirectory")
        if value is None:
            return ""
        word = value.text.lower()
        near, context = "", ""
        if word in ("yaml", "file"):
            kind, key = ("kube", "Yaml") if word == "yaml" else ("build", "File")
            if self.kind != kind:
                raise value.fail(
                    f"SetWorkingDirectory={value.text} is only supported in .{kind} files"
                )
            near = self._text(key)
            if not near:
                raise value.fail(f"no {key} key specified")
        elif word == "unit":
            near = self.source.path
        elif self.kind != "build":
            raise value.fail(
                f"SetWorkingDirectory={value.text}: unsupported value for WorkingDirectory: must be yaml or unit"
            )
        else:
            context = value.text
            near = "" if context.startswith("/") else self.source.path
        if near and not _is_url(context):
            if self.source.last("Service", "WorkingDirectory") is not None:
                return ""
            folder = os.path.dirname(self._path(near))
            self._add("Service", "WorkingDirectory", folder)
        return context

    def _kube(self) -> None:
        yaml = self._text("Yaml")
        if not yaml:
            raise QuadletError(f"{self.source.path}: no Yaml key specified")
        yaml = self._path(yaml)
        if not self._service():
            self._default("Type", "notify")
            self._set("NotifyAccess", "all")
        self._default("SyslogIdentifier", "%N")
        words = [*self._base(), "kube", "play", "--replace", "--service-container=true"]
        self._command("ExecStart", [*words, *self._options(), yaml])
        force = self.source.flag("Kube", "KubeDownForce")
        down = [*self._base(), "kube", "down"]
        down += [] if force is None else ["--force" if force else "--force=false"]
        self._command("ExecStopPost", [*down, yaml])
        self._working_directory()

    def _pod(self) -> None:
        self._add("Unit", "RequiresMountsFor", "%t/rootless")
        for service in self.all.pods.get(self.source.name, ()):
            self._add("Unit", "Wants", service)
            self._add("Unit", "Before", service)
        self._default("SyslogIdentifier", "%N")
        pod, id_file = [*self._base(), "pod"], "--pod-id-file=%t/%N.pod-id"
        self._command("ExecStart", [*pod, "start", id_file])
        self._command("ExecStop", [*pod, "stop", id_file, "--ignore", "--time=10"])
        self._command("ExecStopPost", [*pod, "rm", id_file, "--ignore", "--force"])
        create = [*pod, "create", "--infra-conmon-pidfile=%t/%N.pid", id_file]
        create += ["--exit-policy=stop", "--replace", *self._options()]
        self._command("ExecStartPre", create)
        self._add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n")
        self._set("Type", "forking")
        self._default("Restart", "on-failure")
        self._set("PIDFile", "%t/%N.pid")


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://", "git://", "github.com/"))


def _is_full(image: str) -> bool:
    """Whether an image's name says which registry it is in, or is an id, or the host's own files."""
    if image == "host" or image.startswith("sha256:") or "%" in image:
        return True
    if len(image) == 64 and all(c in "0123456789abcdefABCDEF" for c in image):
        return True
    first, slash, _ = image.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")
