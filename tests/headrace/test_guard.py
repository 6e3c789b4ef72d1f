"""A guarded command ends with its parent, however that ends."""

import signal
import subprocess
import sys

import psutil

from headrace.guard import guarded


def test_a_guarded_command_runs() -> None:
    command = guarded(signal.SIGTERM, [sys.executable, "-c", "print('here')"])
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "here\n"


def test_a_guarded_command_ends_when_its_parent_is_killed() -> None:
    program = (
        "import signal, subprocess, sys, time\n"
        "from headrace.guard import guarded\n"
        "child = subprocess.Popen(guarded(signal.SIGKILL, ['/bin/sleep', '60']))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_command_whose_parent_is_gone_already_does_not_run() -> None:
    command = guarded(signal.SIGTERM, [sys.executable, "-c", "print('here')"])
    command[3] = "1"  # as if process 1 had started it
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
