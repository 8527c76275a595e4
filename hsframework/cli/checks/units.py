"""Checks of the units for systemd: what they are doing, and what they allow the service."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from hsframework.cli.checks.finding import Finding
from hsframework.cli.checks.processes import is_stopped
from hsframework.configuration.settings import Configuration

SYSTEMD = Path("/run/systemd/system")
"""It exists where systemd is the init system."""
SERVICE, AGENTS = "hsframework.service", "hsframework-agent@*.service"

_PROPERTIES = (
    "Id LoadState ActiveState SubState UnitFileState Result NRestarts ExecMainStatus StatusText OOMScoreAdjust"
    " CapabilityBoundingSet LimitMEMLOCK MainPID"
).split()
_TIMEOUT = 10
_MEANINGS = {
    "2": "its configuration is wrong",
    "3": "the dispatcher does not let it join",
    "4": "a required plugin cannot be used",
}
"""Exit statuses of the service, for people."""

Unit = Mapping[str, str]


def loaded_units() -> list[Unit]:
    """Return the properties of the service's units that systemd knows; none where it is not the init system."""
    if not SYSTEMD.is_dir():
        return []
    command = ["systemctl", "show", "--property", ",".join(_PROPERTIES), SERVICE, AGENTS]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    units = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in said.split("\n\n")]
    return [unit for unit in units if unit.get("LoadState") == "loaded"]


def check_units(settings: Configuration, units: Iterable[Unit]) -> Iterable[Finding]:
    """Check that each unit runs, and that the service may do in it what the configuration asks for."""
    for unit in units:
        yield _state(unit)
        yield from limits(settings, unit)
    if _is_active("tlshd.service"):
        yield Finding(
            "tlshd", "missing", "it runs beside the service, and takes requests", "systemctl disable --now tlshd"
        )


def _state(unit: Unit) -> Finding:
    name, active, sub = unit["Id"], unit.get("ActiveState", ""), unit.get("SubState", "")
    status, restarts = unit.get("ExecMainStatus", "0"), int(unit.get("NRestarts") or 0)
    look, pid = f"journalctl -u {name}", unit.get("MainPID") or "0"
    if active == "failed":
        advice = "correct it (hsframework config check), then: systemctl restart hsframework" if status == "2" else look
        return Finding(name, "missing", f"it has failed: {_reason(name, status)}", advice)
    if sub == "auto-restart" or (active == "activating" and restarts):
        detail = f"it ends again and again ({restarts} restarts): {_reason(name, status)}"
        return Finding(name, "missing", detail, look)
    if pid != "0" and is_stopped(int(pid)):
        return Finding(name, "missing", f"its main process {pid} is stopped (SIGSTOP)", f"kill -CONT {pid}")
    if active == "activating":
        return Finding(name, "missing", f"it is not ready: {unit.get('StatusText') or 'it starts'}", look)
    if active != "active":
        return Finding(name, "note", f"it is {active}", "systemctl enable --now hsframework")
    words = [unit.get("StatusText") or "active"]
    if restarts:
        words.append(f"{restarts} restarts")
    if name == SERVICE and unit.get("UnitFileState") not in ("enabled", "static", "generated", "enabled-runtime"):
        return Finding(name, "note", f"{'; '.join(words)}; it is not enabled", "systemctl enable hsframework")
    return Finding(name, "ok", "; ".join(words))


def _reason(name: str, status: str) -> str:
    """Return why a unit has ended: what its status means, and its last words."""
    # While it is being started again, systemd no longer knows the status of the process before.
    meaning = _MEANINGS.get(status, f"its last status was {status}") if status != "0" else ""
    last = last_error(name)
    return "; ".join(filter(None, (meaning, f"its last words: {last}" if last else ""))) or "see its log"


def limits(settings: Configuration, unit: Unit) -> Iterable[Finding]:
    """Yield what a unit forbids of the table ``[memory]``."""
    name, capabilities = unit["Id"], unit.get("CapabilityBoundingSet", "").split()
    score = settings.memory.oom_score_adjust
    if score is not None and "cap_sys_resource" not in capabilities:
        given = int(unit.get("OOMScoreAdjust") or 0)
        if score < given:
            yield Finding(
                "OOM score",
                "missing",
                f"memory.oom-score-adjust = {score}: {name} has {given}, and lowering it takes CAP_SYS_RESOURCE",
                f"OOMScoreAdjust={score} in {name}, or leave memory.oom-score-adjust out",
            )
    if settings.memory.lock and unit.get("LimitMEMLOCK") != "infinity" and "cap_sys_resource" not in capabilities:
        yield Finding(
            "locked memory",
            "missing",
            f"memory.lock is set, and {name} allows {unit.get('LimitMEMLOCK')} bytes",
            f"LimitMEMLOCK=infinity in {name}",
        )


def last_error(unit: str) -> str:
    """Return the last line that a unit's processes have written in this boot with priority error or worse; empty if
    there is none.

    What systemd writes about the unit says no more than its state.
    """
    command = ["journalctl", "--boot", f"_SYSTEMD_UNIT={unit}", "--priority", "err", "--lines", "1", "--output", "cat"]
    try:
        said = subprocess.run(
            [*command, "--no-pager"], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " ".join(said.split())[:300]


def _is_active(unit: str) -> bool:
    if not SYSTEMD.is_dir():
        return False
    try:
        done = subprocess.run(["systemctl", "--quiet", "is-active", unit], timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
