"""`rootless pause` and `unpause`: hold all processes of containers, and let them go on."""

from __future__ import annotations

from rootless.cli.options import CIDFILE, LATEST, all_option, filter_option

PAUSE_OPTIONS = (all_option("Every running container"), CIDFILE, filter_option(), LATEST)
UNPAUSE_OPTIONS = (all_option("Every paused container"), CIDFILE, filter_option(), LATEST)
