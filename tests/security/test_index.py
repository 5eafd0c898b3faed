"""The attacks that other runtimes have fallen to, and where each is tried against this one.

A test that tries case 7 has `test_case_07_` in its name, wherever it lies, one for two cases `test_case_05_07_`. Below stands, for every case, what went wrong
elsewhere; and for those without a test, which feature they wait for. A case leaves WAITING when its first test comes.
"""

from __future__ import annotations

import re

from tests.support.engine import REPOSITORY

CASES = {
    1: "CVE-2019-5736: the payload overwrites the runtime through /proc/self/exe",
    2: "CVE-2024-21626: a leaked folder descriptor and a working directory below /proc/self/fd",
    3: "CVE-2016-9962: whoever joins a container is traced from inside for its descriptors",
    4: "CVE-2025-31133: masked paths use an image's own /dev/null",
    5: "CVE-2025-52565: /dev/console is bound through a link in /dev/pts",
    6: "CVE-2025-52881 and others: labels and sysctls are written into a forged /proc",
    7: "CVE-2026-41579 and others: /dev, /dev/null or the console is a link in the image",
    8: "CVE-2021-30465, CVE-2024-45310: a mount point is swapped for a link meanwhile",
    9: "CVE-2026-55686: the working directory's link makes the engine create folders on the host",
    10: "CVE-2019-18837, CVE-2025-24965: targets outside the root; ids and names with / or ..",
    11: "CVE-2022-1227: `top` runs a program of the container",
    12: "CVE-2019-14271, CVE-2026-41567: a library or program is looked up inside the container",
    13: "CVE-2018-15664 and others: `cp` follows a link or races with a mount",
    14: "CVE-2023-0778: a file becomes a link while a volume is exported",
    15: "CVE-2025-9566: secrets are written through a link left in a volume",
    16: "CVE-2024-9676: an image's /etc/passwd is a FIFO, a link, or endless",
    17: "CVE-2024-9341: a link of the image steers a default mount",
    18: "CVE-2026-57231, CVE-2020-14370: an image's environment copies the host's",
    19: "CVE-2022-27649 and others: inheritable capabilities are not empty",
    20: "CVE-2018-10856: an unprivileged user keeps capabilities",
    21: "CVE-2022-2989 and others: the primary group is not among the supplementary ones",
    22: "CVE-2026-30892, CVE-2016-3697, CVE-2024-40635: user names and ids parsed loosely",
    23: "CVE-2023-25809: the host's cgroups are writable inside",
    24: "CVE-2022-0811: a sysctl's value carries other settings",
    25: "CVE-2026-31431: AF_ALG reaches the page cache from the default sandbox",
    26: "CVE-2024-3056, and fork bombs: shared memory and processes beyond their limits",
    27: "CVE-2024-3727: an unchecked digest becomes part of a path",
    28: "CVE-2021-41190: a document that is a manifest and an index",
    29: "CVE-2019-10214, CVE-2020-15157: credentials sent to another host or in clear",
    30: "CVE-2025-6032: one way in without certificate checks",
    31: "CVE-2020-10696, CVE-2021-32760, CVE-2025-4517: archive entries reach outside",
    32: "CVE-2021-20291, CVE-2017-14992: bombs and dead locks while unpacking",
    33: "CVE-2022-23648, CVE-2020-1726: a volume's first filling copies host files or overwrites",
    34: "CVE-2024-1753 and others: build mounts",
    35: "CVE-2026-44517, CVE-2019-13139: build contexts",
    36: "CVE-2026-53488 and others: labels and annotations steer the host",
    37: "short names claimed by somebody else",
    38: "a pull renames another image",
    39: "CVE-2021-41091: other users run set-user-id files of the store",
    40: "CVE-2020-15257: abstract sockets are reachable from the host's network",
    41: "CVE-2021-4024: a control interface on TCP",
    42: "CVE-2021-20199: remote traffic looks like 127.0.0.1",
    43: "CVE-2019-6778 and others: the network helper; the host's loopback is reachable",
    44: "CVE-2024-29018: names of an internal network are asked outside",
    45: "CVE-2022-1708, CVE-2022-31030: output fills the monitor's memory",
    46: "a reused process id is killed",
    47: "a run-time folder in /tmp made by somebody else",
    48: "secrets in arguments, inspect, the journal, unit files",
    49: "names and environments inject into unit files",
    50: "control characters of images and logs reach the terminal",
    51: "helpers and libraries are found through the caller's PATH, LD_* and PYTHON*",
    52: "exec and cp on somebody else's or an older boot's container",
}

# What has no test of its own yet, and why.
WAITING = {
    15: "secrets and kube",
    34: "build",
    35: "build",
    41: "the API",
}


def tries() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for path in sorted(REPOSITORY.glob("tests/**/test_*.py")):
        for name in re.findall(r"^ *def (test_case_\d+\w*)", path.read_text(), re.M):
            for word in name.split("_")[2:]:
                if not word.isdigit():
                    break
                found.setdefault(int(word), []).append(f"{path.relative_to(REPOSITORY)}::{name}")
    return found


def test_every_tested_case_is_a_known_one() -> None:
    assert set(tries()) <= set(CASES)


def test_every_case_is_tried_or_waits_for_something() -> None:
    assert sorted(set(CASES) - set(tries()) - set(WAITING)) == []


def test_no_case_waits_that_is_tried() -> None:
    assert {number: names for number, names in tries().items() if number in WAITING} == {}
