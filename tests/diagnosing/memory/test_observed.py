"""A process under observation answers where it is and what its allocator holds, to its own user only, and is never disturbed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provisioner.diagnosing.memory import observed
from provisioner.errors import UsageError

GIB = 2**30
TORCH = f"""
__version__ = "2.11.0"
class OutOfMemoryError(RuntimeError): ...
class cuda:
    class memory:
        @staticmethod
        def _snapshot():
            blocks = [{{"size": {GIB}, "state": "active_allocated"}}, {{"size": {GIB // 2}, "state": "inactive"}}, {{"size": {GIB // 2}, "state": "inactive"}}]
            return {{"segments": [{{"device": 0, "total_size": {2 * GIB}, "allocated_size": {GIB}, "blocks": blocks, "is_expandable": True}}],
                    "allocator_settings": {{"expandable_segments": True, "kind": object}}}}
    is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)
    get_device_properties = staticmethod(lambda index: None)
    get_allocator_backend = staticmethod(lambda: "native")
    @staticmethod
    def memory_stats(index):
        return {{}} if index else {{"allocated_bytes.all.current": {GIB}, "reserved_bytes.all.current": {2 * GIB}, "reserved_bytes.all.peak": {2 * GIB}}}
"""
"""torch's surface that the observer asks (torch/cuda/memory.py, 2.13), holding 1 of 2 GiB; the real one needs a GPU (see the gpu tests)."""


@contextmanager
def started(tmp_path: Path, code: str, **more: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run ``code`` observed and yield the process once it has its socket."""
    where = tmp_path / "o"
    environ = {**os.environ, **observed.variables({"PYTHONPATH": str(tmp_path)}), observed.VARIABLE: str(where), **more}
    process = subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 20
        while not observed.is_observed(process.pid, where) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        yield process, where
    finally:
        process.kill()
        process.communicate()


@pytest.mark.subprocess
def test_an_observed_process_says_at_which_line_it_waits(tmp_path: Path) -> None:
    code = "import time\ndef wait_for_rank_3():\n    time.sleep(60)\nwait_for_rank_3()"
    with started(tmp_path, code) as (process, where):
        time.sleep(0.3)
        answer = observed.ask(process.pid, where)
        assert answer is not None
        assert answer.pid == process.pid
        assert [frame[2] for frame in answer.threads[0].frames][:2] == ["wait_for_rank_3", "<module>"]
        assert answer.torch is None


@pytest.mark.subprocess
def test_it_answers_again_and_again_and_while_the_main_thread_is_in_c(tmp_path: Path) -> None:
    with started(tmp_path, "import hashlib\nwhile True: hashlib.pbkdf2_hmac('sha256', b'a', b'b', 3_000_000)") as (
        process,
        where,
    ):
        assert all(observed.ask(process.pid, where) for _ in range(5))


@pytest.mark.subprocess
def test_the_allocator_is_described_by_its_own_counters_and_settings(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(TORCH)
    with started(tmp_path, "import torch, time\ntime.sleep(60)", PYTORCH_ALLOC_CONF="backend:native") as (process, where):
        time.sleep(0.3)
        answer = observed.ask(process.pid, where)
        assert answer is not None
        assert answer.torch is not None
        (device,) = answer.torch.devices
        assert (device.allocated, device.reserved, device.unused, device.largest_free) == (GIB, 2 * GIB, GIB, GIB // 2)
        assert device.fragmentation == 0.5
        assert answer.torch.settings["expandable_segments"] is True
        assert answer.variables == {"PYTORCH_ALLOC_CONF": "backend:native"}


@pytest.mark.subprocess
def test_a_process_that_dies_out_of_memory_leaves_its_description_and_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(TORCH)
    code = "import torch\nraise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')"
    with started(tmp_path, code) as (process, where):
        assert b"OutOfMemoryError" in process.communicate(timeout=30)[1]
        (left,) = observed.ended(where, since=0)
        assert left.error == "CUDA out of memory. Tried to allocate 2.00 GiB."
        assert left.torch is not None
        assert left.torch.devices[0].reserved == 2 * GIB
        assert not observed.is_observed(process.pid, where)
        assert not list(observed.ended(where, since=time.time() + 60))


@pytest.mark.subprocess
def test_the_sitecustomize_that_was_there_still_runs_and_python_is_otherwise_as_before(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos.environ['THEIRS'] = 'ran'\n")
    code = "import os, sys; print(os.environ.get('THEIRS'), any('observer' in entry for entry in sys.path)); sys.exit(7)"
    with started(tmp_path, code) as (process, where):
        out, err = process.communicate(timeout=30)
        assert (out.split(), err, process.returncode) == ([b"ran", b"False"], b"", 7)
        assert list(where.iterdir()) == []


@pytest.mark.subprocess
def test_a_fork_does_not_take_its_parents_socket_away(tmp_path: Path) -> None:
    code = "import os, sys, time\npid = os.fork()\nif not pid: sys.exit(0)\nos.waitpid(pid, 0)\ntime.sleep(60)"
    with started(tmp_path, code) as (process, where):
        time.sleep(0.5)
        assert observed.ask(process.pid, where) is not None


@pytest.mark.subprocess
def test_a_directory_that_others_may_enter_is_not_used_and_the_process_runs_on(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir(mode=0o755)
    with started(tmp_path, "print('trained')") as (process, where):
        assert process.communicate(timeout=30)[0] == b"trained\n"
        assert list(where.iterdir()) == []


@pytest.mark.subprocess
def test_a_stopped_process_is_known_to_be_observed_and_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "ANSWER_SECONDS", 0.3)
    with started(tmp_path, "import time\ntime.sleep(60)") as (process, where):
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # until it stands still
        assert observed.ask(process.pid, where) is None
        assert observed.is_observed(process.pid, where)
        process.send_signal(signal.SIGCONT)


def snapshot(*sizes: tuple[int, int]) -> bytes:
    segments = [
        {"device": 0, "total_size": total, "allocated_size": held, "blocks": [{"size": total - held, "state": "inactive"}]}
        for total, held in sizes
    ]
    return pickle.dumps({"segments": segments, "device_traces": [[]], "allocator_settings": {"expandable_segments": False}})


def test_the_file_of_a_memory_snapshot_is_read() -> None:
    raw = snapshot((4 * GIB, GIB), (2 * GIB, 0))
    assert observed.is_snapshot(raw)
    (device,) = observed.read_snapshot(raw).devices
    assert (device.reserved, device.allocated, device.largest_free) == (6 * GIB, GIB, 3 * GIB)
    assert device.inactive_split == 3 * GIB


class _Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize(
    "raw", [pickle.dumps({"segments": [_Attack()]}), b"\x80\x04", b"\x80\x04]\x94.", pickle.dumps({"segments": [1]})]
)
def test_a_pickle_that_is_anything_else_is_refused_and_runs_nothing(raw: bytes) -> None:
    with pytest.raises(UsageError, match="no memory snapshot"):
        observed.read_snapshot(raw)
    assert not Path("/tmp/never").exists()
