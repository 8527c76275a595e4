"""Process 1 of the test kernel: makes the host's files a usable system, runs one command, and powers off.

Run as ``python -I -S init.py EXCHANGE`` on the host's root, which is mounted read-only; EXCHANGE is a host directory
with ``settings.json``, which comes back with ``output`` and ``exit``.  Standard library only, and mount(2) itself:
what programs the host has does not matter.

* /tmp, /run, /dev/shm are empty and writable.  What is needed of the host below them (``keep``) is mounted there again.
* /sys has debugfs, configfs and the cgroups, of version 2.
* /run/exchange is EXCHANGE, the one place that the host sees written.
* /run/debian is the Debian root under an overlay, writable, with /proc, /sys, /dev, /run, /tmp and ``keep`` of the
  whole: ``chroot /run/debian tlshd``.  Mounts below /run (network namespaces) are the same on both sides.
* The kernel loads modules with the Debian root's modprobe.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_SHARED = 1, 2, 4, 4096, 16384, 1 << 20
RB_POWER_OFF = 0x4321FEDC
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
EXCHANGE = Path("/run/exchange")
DEBIAN = Path("/run/debian")
HIDDEN = (Path("/tmp"), Path("/run"), Path("/dev"))
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: Path | str, kind: str | None, flags: int = 0, data: str = "") -> None:
    arguments = [part.encode() if part is not None else None for part in (source, str(target), kind)]
    if _libc.mount(*arguments, ctypes.c_ulong(flags), data.encode()):
        error = ctypes.get_errno()
        raise OSError(error, f"mount {kind or ''} {source} {data}: {os.strerror(error)}", str(target))


def _hostfs(path: Path, target: Path, flags: int = MS_RDONLY) -> None:
    target.mkdir(parents=True, exist_ok=True)
    _mount("none", target, "hostfs", flags | MS_NODEV, str(path))


def _file_systems() -> None:
    _mount("none", "/", None, MS_REC | MS_SHARED)
    _mount("proc", "/proc", "proc")
    _mount("sysfs", "/sys", "sysfs")
    _mount("debugfs", "/sys/kernel/debug", "debugfs")
    _mount("configfs", "/sys/kernel/config", "configfs")
    _mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
    if not os.path.ismount("/dev"):
        _mount("devtmpfs", "/dev", "devtmpfs")
    for name, kind, data in (("pts", "devpts", "ptmxmode=0666"), ("shm", "tmpfs", "mode=1777")):
        Path("/dev", name).mkdir(exist_ok=True)
        _mount(kind, f"/dev/{name}", kind, MS_NOSUID, data)
    _mount("tmpfs", "/run", "tmpfs", MS_NOSUID, "mode=0755")
    _mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID, "mode=1777")
    Path("/run/lock").mkdir()


def _host_directories(keep: list[Path], exchange: Path) -> None:
    for path in keep:
        if any(path.is_relative_to(hidden) for hidden in HIDDEN):
            _hostfs(path, path)
    _hostfs(exchange, EXCHANGE, 0)


def _debian(root: Path, modules: Path, keep: list[Path]) -> None:
    scratch = Path("/run/overlay")
    lower = scratch / "lower"
    _hostfs(root, lower)
    for name in ("upper", "work"):
        (scratch / name).mkdir()
    DEBIAN.mkdir()
    layers = f"lowerdir={lower},upperdir={scratch}/upper,workdir={scratch}/work"
    _mount("overlay", DEBIAN, "overlay", 0, layers)
    for name in ("proc", "sys", "dev", "tmp"):
        _mount(f"/{name}", DEBIAN / name, None, MS_BIND | MS_REC)
    _mount("/run", DEBIAN / "run", None, MS_BIND)
    # A mount of its own by now, or `ip netns` would make one that the other side does not see.
    Path("/run/netns").mkdir()
    _mount("tmpfs", "/run/netns", "tmpfs", MS_NOSUID, "mode=0755")
    for path in keep:
        inside = DEBIAN / path.relative_to("/")
        if not any(path.is_relative_to(hidden) for hidden in HIDDEN):
            inside.mkdir(parents=True, exist_ok=True)
            _mount(str(path), inside, None, MS_BIND | MS_REC)
    _hostfs(modules, DEBIAN / "usr/lib/modules")
    loader = Path("/run/modprobe")
    loader.write_text(f'#!/bin/sh\nexec chroot {DEBIAN} /sbin/modprobe "$@"\n')
    loader.chmod(0o755)
    Path("/proc/sys/kernel/modprobe").write_text(f"{loader}\n")


def _kernel_settings() -> None:
    socket.sethostname("kernel.test")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 524288))
    # What is written to the exchange directory reaches the host within half a second, also when everything hangs.
    for name in ("dirty_writeback_centisecs", "dirty_expire_centisecs"):
        Path("/proc/sys/vm", name).write_text("50")


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        _, flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def _run(settings: dict[str, Any]) -> int:
    """Run the command and return its exit code; its output goes to the exchange directory, orphans are reaped."""
    with open(EXCHANGE / "output", "wb") as output:
        child = subprocess.Popen(
            settings["command"],
            cwd=settings["directory"],
            env=settings["environment"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        while True:
            pid, status = os.wait()
            if pid == child.pid:
                return os.waitstatus_to_exitcode(status)


def main() -> None:
    """Run the command and power off: never returns."""
    try:
        exchange = Path(sys.argv[1])
        settings = json.loads((exchange / "settings.json").read_text())
        keep = [Path(path) for path in settings["keep"]]
        _file_systems()
        _host_directories(keep, exchange)
        _debian(Path(settings["root"]), Path(settings["modules"]), keep)
        _kernel_settings()
        _loopback_up()
        code = _run(settings)
        (EXCHANGE / "exit").write_text(str(code))
    except BaseException:
        print("the test kernel's init failed:", file=sys.stderr)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os.sync()
        _libc.reboot(RB_POWER_OFF)


if __name__ == "__main__":
    main()
