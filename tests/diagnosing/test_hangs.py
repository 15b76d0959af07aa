"""What hangs is named: each process here really waits, for a lock, a peer, a child, a build that died."""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from provisioner.cli.doctor import command
from provisioner.codec import from_builtins
from provisioner.diagnosing import hangs
from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.child import attempts as attempting
from provisioner.diagnosing.inventory import Attempt, Lock, Waits
from provisioner.diagnosing.running import of_py_spy, watch
from tests.diagnosing.memory.test_observed import started

pytestmark = pytest.mark.subprocess

BATON = """
import os, time
class FileBaton:  # as torch/utils/file_baton.py waits
    def __init__(self, path): self.path = path
    def wait(self):
        while os.path.exists(self.path): time.sleep(0.1)
"""


class Places:
    """What the waiting processes wait for, made before they start."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.lock = folder / "build.lock"
        held = stack.enter_context(self.lock.open("w"))
        fcntl.flock(held, fcntl.LOCK_EX)
        self.full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # the queue of connections is full: the next one is not answered
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(self.full.getsockname())
        self.silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.nvcc = folder / "nvcc"
        self.nvcc.write_text("#!/bin/sh\nsleep 60\n")
        self.nvcc.chmod(0o755)
        package = folder / "torch" / "utils"
        package.mkdir(parents=True)
        (package / "file_baton.py").write_text(BATON)
        self.baton, self.packages = folder / "lock", folder
        self.baton.touch()


def codes_of(places: Places) -> dict[str, str]:
    full, silent = (one.getsockname()[1] for one in (places.full, places.silent))
    return {
        "flock": f"import fcntl\nfile = open({str(places.lock)!r}, 'w')\nfcntl.flock(file, fcntl.LOCK_EX)",
        "connect": f"import socket\nsocket.socket().connect(('127.0.0.1', {full}))",
        "accept": "import socket\nsocket.create_server(('127.0.0.1', 0)).accept()",
        "answer": f"import socket\none = socket.socket()\none.connect(('127.0.0.1', {silent}))\none.recv(1)",
        "child": "import subprocess\nsubprocess.run(['sleep', '61'])",
        "compiler": f"import subprocess\nsubprocess.run([{str(places.nvcc)!r}])",
        "baton": f"import sys\nsys.path.insert(0, {str(places.packages)!r})\nfrom torch.utils.file_baton import FileBaton\nFileBaton({str(places.baton)!r}).wait()",
        "pool": "import multiprocessing\nmultiprocessing.get_context('spawn').Queue().get()",
        "silence": "import threading\nthreading.Event().wait()",
        "work": "def one():\n  return sum(range(40))\ndef two():\n  return sum(range(50))\nwhile True:\n  one(); two()",
    }


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Places, dict[str, Attempt]]]:
    """All of them at once: they only wait."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        places = Places(tmp_path_factory.mktemp("waits"), stack)

        def run(name: str, code: str) -> None:
            found[name] = attempting.child(code, 5.0)

        threads = [threading.Thread(target=run, args=item) for item in codes_of(places).items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield places, {name: from_builtins(one, Attempt) for name, one in found.items()}


def judged(attempts: tuple[Places, dict[str, Attempt]], name: str, locks: tuple[Lock, ...] = ()) -> Candidate:
    attempt = attempts[1][name]
    return hangs.judge("import of it", attempt.seconds, hangs.evidence_of(attempt, locks))


def test_a_lock_is_named_with_its_holder(attempts: tuple[Places, dict[str, Attempt]]) -> None:
    found = judged(attempts, "flock")
    assert f"it waits for the lock {attempts[0].lock}, held by process {os.getpid()}" in found.title
    assert any("in flock on" in quote for quote in found.evidence)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("connect", "a connection to 127.0.0.1:"),
        ("accept", "somebody to connect to 127.0.0.1:"),
        ("answer", "an answer from 127.0.0.1:"),
        ("child", "another program: sleep 61"),
        ("compiler", "a compiler (nvcc)"),
        ("pool", "a worker process"),
    ],
)
def test_what_it_waits_for_is_named(attempts: tuple[Places, dict[str, Attempt]], name: str, expected: str) -> None:
    found = judged(attempts, name)
    assert found.code == "import-hangs"
    assert f"it waits for {expected}" in found.title, (found.title, found.evidence)


def test_the_ports_are_those_of_the_peers(attempts: tuple[Places, dict[str, Attempt]]) -> None:
    assert judged(attempts, "connect").title.endswith(str(attempts[0].full.getsockname()[1]))
    assert judged(attempts, "answer").title.endswith(str(attempts[0].silent.getsockname()[1]))


def test_the_lock_of_a_dead_build_is_told_from_that_of_a_living_one(attempts: tuple[Places, dict[str, Attempt]]) -> None:
    path = str(attempts[0].baton)
    dead = judged(attempts, "baton", (Lock(path, 900),))
    assert f"the lock {path} of a build that has died" in dead.title
    assert dead.fix is not None
    assert dead.fix.command == shlex.join(["rm", path])
    assert "another build of the same extension (process 77)" in judged(attempts, "baton", (Lock(path, 900, (77,)),)).title


def test_a_hang_without_a_known_reason_shows_its_line_and_says_that_it_stayed_there(
    attempts: tuple[Places, dict[str, Attempt]],
) -> None:
    found = judged(attempts, "silence")
    assert "waits for" not in found.title
    assert any("threading.py" in quote for quote in found.evidence)
    assert "the same line some seconds before" in found.evidence


def test_work_is_not_called_a_hang(attempts: tuple[Places, dict[str, Attempt]]) -> None:
    busy = hangs.evidence_of(attempts[1]["work"])
    assert busy.busy
    moved = replace(busy, earlier=("another line",))
    assert hangs.judge("import of it", 5, moved).code == "import-slow"


def test_an_import_that_gets_on_slowly_on_a_crowded_machine_is_not_hung() -> None:
    def judged(cpu: float) -> str:
        waits = Waits("S (sleeping)", call="futex", cpu=cpu)
        return hangs.judge("import of torch", 25, hangs.Evidence(("line 1",), ("line 9",), waits)).code

    assert judged(0.08) == "import-slow"
    assert judged(0.0) == "import-hangs"


def test_a_thread_stuck_in_the_driver_is_the_drivers() -> None:
    stuck = Waits("S (sleeping)", call="futex", stuck=("python < nvidia_ioctl < os_acquire_rwlock_write",), cpu=0.0)
    seen = hangs.Evidence(('File "x/huggingface_hub/file_download.py", line 1 in http_get',), (), stuck)
    wait = hangs.reason(seen)
    assert wait is not None
    assert wait.what == "the NVIDIA driver"


def test_a_running_process_that_waits_is_told_where_by_itself(tmp_path: Path) -> None:
    code = "import socket\ndef rendezvous():\n    socket.create_server(('127.0.0.1', 0)).accept()\nrendezvous()"
    with started(tmp_path, code) as (process, _):
        time.sleep(0.3)
        attempt = watch(process.pid, seconds=1.0)
        found = hangs.judge_process(process.pid, attempt.seconds, hangs.evidence_of(attempt))
    assert found.code == "process-hangs"
    assert "somebody to connect to 127.0.0.1:" in found.title
    assert any("in rendezvous" in quote for quote in found.evidence)


def test_a_running_process_that_works_is_left_in_peace(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        attempt = watch(process.pid, seconds=1.5)
    finally:
        process.kill()
        process.wait()
    assert hangs.judge_process(process.pid, 1.5, hangs.evidence_of(attempt)).code == "process-busy"


def test_a_process_that_is_gone_is_said_to_be_gone() -> None:
    result = CliRunner().invoke(command, ["--pid", "4194303"])
    assert "there is no process 4194303" in str(result.exception)


def test_a_dump_of_py_spy_is_read_main_thread_first() -> None:
    text = """Process 12: python train.py
Python v3.12.3 (/usr/bin/python3.12)

Thread 12 (idle): "MainThread"
    wait (torch/utils/file_baton.py:49)
    <module> (train.py:3)
Thread 13 (active): "worker"
    run (threading.py:982)
"""
    frames = hangs.frames_of(of_py_spy(text))
    assert frames[0] == 'File "torch/utils/file_baton.py", line 49 in wait'
    assert frames[-1] == 'File "threading.py", line 982 in run'
