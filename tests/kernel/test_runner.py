"""The runner of the test kernel: results come back as they were, and faults in there are reported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.kernel import uml


def _python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def test_output_and_exit_code_come_back_whole() -> None:
    """Ten megabytes of output in order, and the command's own exit code."""
    outcome = uml.run(_python("import sys; [print(f'{n:09}') for n in range(1_000_000)]; sys.exit(7)"))
    assert outcome.exit_code == 7
    assert outcome.output.split() == [f"{n:09}" for n in range(1_000_000)]


def test_death_by_a_signal_is_told() -> None:
    """The exit code of a killed command is the signal's number, negative."""
    assert uml.run(_python("import os; os.kill(os.getpid(), 15)")).exit_code == -15


def test_the_hosts_files_cannot_be_written(tmp_path: Path) -> None:
    """The root is the host's, read-only; /tmp is the kernel's own."""
    (uml.CHECKOUT / "pyproject.toml").stat()
    source = (
        "import errno, os, pathlib\n"
        "assert os.uname().sysname == 'Linux' and os.uname().machine == 'x86_64'\n"
        "pathlib.Path('/tmp/mark').write_text('')\n"
        f"assert not pathlib.Path({str(tmp_path)!r}).exists()\n"
        "try:\n    open('mark', 'w')\n"
        "except OSError as error:\n    print(errno.errorcode[error.errno])\n"
    )
    outcome = uml.run(_python(source))
    assert (outcome.exit_code, outcome.output) == (0, "EROFS\n")
    assert not Path("/tmp/mark").exists()


def test_a_hang_ends_with_the_kernels_log() -> None:
    """Past its time the kernel is ended, and its log, output so far and its processes are in the error."""
    with uml.Boot(_python("import time; print('so far', flush=True); time.sleep(1000)")) as boot:
        boot.watch(lambda: "so far" in boot.read("output"))
        with pytest.raises(uml.KernelFailed) as failure:
            boot.wait(timeout=1)
    text = str(failure.value)
    assert "made no progress" in text
    assert "so far" in text
    assert "Linux version" in text
    assert "task:python" in text


def test_a_panic_is_told() -> None:
    """A kernel that panics ends without an exit code; the error has its log."""
    with pytest.raises(uml.KernelFailed, match="Kernel panic"):
        uml.run(_python("open('/proc/sysrq-trigger', 'w').write('c')"))


def test_nothing_is_left_behind() -> None:
    """After a boot its exchange directory is gone, and so is its process."""
    with uml.Boot(_python("pass")) as boot:
        exchange = boot.exchange
        boot.wait()
    assert not exchange.exists()
    assert not boot.running


def test_the_environment_is_given_and_no_more() -> None:
    """The command sees what it is given; the host's own environment stays outside."""
    os.environ["KERNEL_TEST_SECRET"] = "x"
    try:
        outcome = uml.run(
            _python("import os; print(os.environ['GIVEN'], 'KERNEL_TEST_SECRET' in os.environ)"),
            environment={"GIVEN": "here"},
        )
    finally:
        del os.environ["KERNEL_TEST_SECRET"]
    assert outcome.output == "here False\n"
