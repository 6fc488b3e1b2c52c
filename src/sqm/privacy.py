"""Keep libraries from reporting home: a run talks to its sources and to nobody else."""

from __future__ import annotations

import os

SWITCHES = {
    "DO_NOT_TRACK": "1",  # Prefect's client
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "GX_ANALYTICS_ENABLED": "false",
}


def stay_private() -> None:
    """Switch analytics off unless the environment says otherwise; call before the imports."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
