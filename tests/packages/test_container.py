"""The container: built from the packages by its Containerfile, run with what the DaemonSet gives it and no more.

The base image is the cached root of Debian 13, so that no registry is asked.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.guests.chroot import ROOTS, unavailable
from tests.packages.conftest import Packages
from tests.support.processes import Program

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "packaging" / "container"
BASE = "localhost/hsframework-base:trixie"
IMAGE = "localhost/hsframework:latest"
PATIENCE = 300


class Podman:
    """podman with a storage of its own.  ``runc``: crun of Debian 12 refuses machines with both kinds of cgroups."""

    def __init__(self, folder: Path) -> None:
        storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        self.command = ["podman", *storage, "--runtime", "runc", "--cgroup-manager", "cgroupfs"]

    def __call__(self, *arguments: str, stdin: Any = subprocess.DEVNULL) -> str:
        """Run podman and return its output.  Raises AssertionError unless it ends with 0."""
        finished = subprocess.run(
            [*self.command, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert finished.returncode == 0, f"{arguments}\n{finished.stdout}"
        return finished.stdout


def container() -> dict[str, Any]:
    """Return the container of the DaemonSet."""
    pod = daemonset()["spec"]["template"]["spec"]
    (found,) = pod["containers"]
    assert isinstance(found, dict)
    return found


def daemonset() -> dict[str, Any]:
    """Return the DaemonSet."""
    found = yaml.safe_load((FOLDER / "daemonset.yaml").read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def podman(packages: Packages) -> Iterator[Podman]:
    """podman, with the image in its storage."""
    missing = [name for name in ("podman", "runc") if not shutil.which(name, path="/usr/bin:/usr/sbin")]
    install = f"{' and '.join(missing)} not installed; scripts/apt-packages.sh packages installs it"
    if reason := unavailable("trixie") or (install if missing else None):
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="hs-podman-", dir="/var/tmp"))
    podman = Podman(folder)
    try:
        tree = ROOTS["trixie"].path / "tree"
        with subprocess.Popen(["tar", "-C", tree, "-cf", "-", "."], stdout=subprocess.PIPE) as tar:
            podman("import", "--quiet", "-", BASE, stdin=tar.stdout)
        context = str(packages.of("trixie")[0].parent)
        file = str(FOLDER / "Containerfile")
        podman("build", "--network=none", "--build-arg", f"BASE={BASE}", "--file", file, "--tag", IMAGE, context)
        yield podman
    finally:
        subprocess.run([*podman.command, "system", "reset", "--force"], stdout=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _run_options() -> list[str]:
    """Return the options of ``podman run`` that give a container what the DaemonSet gives it."""
    security = container()["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    added = [word for name in security["capabilities"]["add"] for word in ("--cap-add", name)]
    limits = [("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)]
    hard = [(name, min(resource.getrlimit(number)[1], 20000)) for name, number in limits]
    ulimits = [word for name, value in hard for word in ("--ulimit", f"{name}={value}:{value}")]
    options = ["--rm", "--network=none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
    return [*options, "--security-opt", "no-new-privileges", *added, *ulimits]


def test_it_serves_with_what_the_daemonset_gives_it(podman: Podman) -> None:
    """Every agent joins, a handshake takes place within the container, and SIGTERM ends it properly."""
    arguments = container()["args"]
    with Program([*podman.command, "run", "--name", "service", *_run_options(), IMAGE, *arguments]) as program:
        for protocol in ("tls13", "quic", "psp"):
            program.wait_for(f'"protocol": "{protocol}".*"joined"')
        assert "All " in podman("exec", "service", "hsframework", "demo")
        probe = container()["readinessProbe"]["exec"]["command"]
        podman("exec", "service", *probe)
        podman("stop", "service")
        assert program.wait() == 0


def test_what_the_manifest_asks_for() -> None:
    """The service shares the node's network, where the kernel's requests come from, and its configuration."""
    spec = daemonset()["spec"]["template"]["spec"]
    assert spec["hostNetwork"]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container()["volumeMounts"]}
    assert mounts == {"/etc/hsframework": True, "/run/hsframework": False, "/tmp": False}
    assert {volume["name"] for volume in spec["volumes"]} == {mount["name"] for mount in container()["volumeMounts"]}
    labels = daemonset()["spec"]["template"]["metadata"]["labels"]
    assert daemonset()["spec"]["selector"]["matchLabels"].items() <= labels.items()
