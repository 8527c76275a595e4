"""State of the service, as its answer to ``status``: what doctor, and people, want to know of the running process.

The answer is made when it is asked for, and opens no file but /proc's.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from hsframework import __version__
from hsframework.configuration.files import Stamp
from hsframework.dispatcher.activity import activity
from hsframework.dispatcher.agents import AgentServer
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.renewal import Ended, as_report
from hsframework.probes import Probe, describe
from hsframework.process.lock import oom_score


class Status:
    """State of one dispatcher.  ``no_kernel``: reason why the kernel is not served; empty: it is, or need not be.
    ``vault``, ``ready``, ``missing`` (required groups that are not served), ``problem_of_metrics``,
    ``problem_of_audit``, ``reload`` (the end of the last one), ``sessions``: asked for at each report."""

    def __init__(
        self,
        vault: Callable[[], Vault],
        agents: AgentServer,
        kernel_tls: Probe[object],
        *,
        no_kernel: str,
        ready: Callable[[], bool],
        missing: Callable[[], list[str]],
        problem_of_metrics: Callable[[], str | None],
        problem_of_audit: Callable[[], str | None] = lambda: None,
        reload: Callable[[], Ended | None],
        sessions: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._vault = vault
        self._agents = agents
        self._kernel_tls = describe(kernel_tls)
        self._ready = ready
        self._missing = missing
        self._problem_of_metrics = problem_of_metrics
        self._problem_of_audit = problem_of_audit
        self._no_kernel = no_kernel
        self._reload = reload
        self._sessions = sessions
        self._started = time.time()

    def report(self) -> str:
        """Return the state as a JSON object."""
        vault, reload = self._vault(), self._reload()
        return json.dumps(
            {
                "version": __version__,
                "process": os.getpid(),
                "started": self._started,
                "ready": self._ready(),
                "missing-groups": self._missing(),
                "no-kernel": self._no_kernel,
                "kernel-tls": self._kernel_tls,
                "oom-score-adjust": oom_score(),
                "files": {path: _stamp(stamp) for path, stamp in vault.files.items()},
                "findings": [asdict(finding) for finding in vault.findings(datetime.now(UTC))],
                "faults": list(vault.faults.values()),
                "reload": None if reload is None else as_report(reload),
                "sessions": self._sessions(),
                "metrics": self._problem_of_metrics(),
                "audit": self._problem_of_audit(),
                "refused-agents": [dict(each) for each in self._agents.refused],
                **activity(self._agents.dispatcher),
            }
        )


def _stamp(stamp: Stamp) -> Mapping[str, Any]:
    return {"modified": stamp.modified, "size": stamp.size}
