"""Platforms: what this machine is, what `--platform` asks for, and which entry of an index fits best."""

from __future__ import annotations

import os

from rootless.errors import NotFound, Usage
from rootless.oci.manifest import Descriptor, Index

# uname's and other people's words → GOARCH and variant, as containerd's platforms package has them.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv8l": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "mips64el": ("mips64le", ""),
    "mipsel": ("mipsle", ""),
    "loongarch64": ("loong64", ""),
}
# What each level of x86-64 adds, in /proc/cpuinfo's words (System V ABI, x86-64 psABI 3.1.1).
_X86_LEVELS = (
    ("v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")


class Platform:
    """An operating system and a processor."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, os: str, architecture: str, variant: str = "") -> None:
        self.os = os
        self.architecture = architecture
        self.variant = variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def normalise(architecture: str, variant: str = "") -> tuple[str, str]:
    architecture = architecture.lower()
    name, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = variant.lower() or implied
    if variant.isdigit():
        variant = f"v{variant}"
    # These name the architecture's only, or first, form: an index may or may not spell them out.
    if (name, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    return name, variant


def host() -> Platform:
    return Platform("linux", *normalise(os.uname().machine))


def wanted(platform: str = "", arch: str = "", os_name: str = "", variant: str = "") -> Platform:
    """Combine --platform or --arch, --os and --variant with what this machine is."""
    here = host()
    if platform:
        if arch or os_name or variant:
            raise Usage("--platform option can not be specified with --arch or --os")
        parts = platform.split("/")
        if len(parts) == 1:
            # As containerd reads it: one word is an architecture, unless it is an operating system.
            parts = (
                [platform, here.architecture]
                if platform in ("linux", "windows")
                else ["linux", platform]
            )
        if len(parts) > 3 or not all(parts):
            raise Usage(f"--platform: {platform!r} is not os/arch or os/arch/variant")
        os_name, arch = parts[0].lower(), parts[1]
        variant = parts[2] if len(parts) == 3 else ""
    if arch:
        name, found = normalise(arch, variant)
    else:
        name, found = normalise(here.architecture, variant or here.variant)
    return Platform(os_name.lower() or here.os, name, found)


def compatible_variants(platform: Platform) -> list[str]:
    """Return the variants that satisfy a platform, best first; the empty one is the plain architecture."""
    name, variant = platform.architecture, platform.variant
    if name == "amd64":
        levels = [level for level, _ in _X86_LEVELS]
        if variant:
            return [
                *reversed(levels[: levels.index(variant) + 1] if variant in levels else [variant]),
                "",
            ]
        if name != host().architecture:
            return ["", *levels]
        return [*reversed(_own_x86_levels()), ""]
    if name == "arm":
        variants = list(_ARM_VARIANTS)
        start = variants.index(variant) if variant in variants else (1 if not variant else -1)
        return [variant] if start < 0 else [*variants[start:], ""]
    if name == "arm64" and not variant:
        return ["", "v8"]
    return [variant] if variant else [""]


def select(index: Index, platform: Platform, what: str) -> Descriptor:
    """Choose the entry of an index for a platform."""
    variants = compatible_variants(platform)
    found: dict[str, Descriptor] = {}
    offered: list[str] = []
    for entry in index.manifests:
        raw = entry.platform
        name, variant = normalise(str(raw.get("architecture") or ""), str(raw.get("variant") or ""))
        os_name = str(raw.get("os") or "")
        if os_name in ("", "unknown") or name in ("", "unknown"):
            continue  # attestations and other companions of the images
        offered.append(str(Platform(os_name, name, variant)))
        if os_name == platform.os and name == platform.architecture:
            found.setdefault(variant, entry)
    for variant in variants:
        if variant in found:
            return found[variant]
    listed = ", ".join(sorted(set(offered))[:30])
    raise NotFound(
        f"{what}: no image found in image index for architecture {platform.architecture!r}, "
        f"variant {platform.variant!r}, OS {platform.os!r}",
        hint=f"it is there for {listed}" if listed else "the index names no platforms",
    )


def matches(config: dict[str, object], platform: Platform) -> bool:
    """Tell whether an image's own config is for a platform."""
    name, variant = normalise(
        str(config.get("architecture") or ""), str(config.get("variant") or "")
    )
    if (config.get("os") or "linux") != platform.os or name != platform.architecture:
        return False
    return not platform.variant or not variant or variant in compatible_variants(platform)


def _own_x86_levels() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    except OSError:
        return []
    found = []
    for level, needed in _X86_LEVELS:
        if not needed <= flags:
            break
        found.append(level)
    return found
