"""`infra.pool.birthmark` and `infra.pool.guardian`: what was born with a mark is found and ended, and nothing else."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from infra.pool import birthmark, guardian
from infra.pool.birthmark import VARIABLE, Birthmark
from infra.pool.provenance import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere descendants are not found")

SLEEP = ["sleep", "3600"]
THREADED = [
    sys.executable, "-I", "-S", "-c",
    "import threading, time; threading.Thread(target=time.sleep, args=(3600,)).start()",
]  # fmt: skip
HEADLESS = [
    sys.executable, "-I", "-c",
    "import ctypes, platform, threading, time; threading.Thread(target=time.sleep, args=(3600,)).start(); "
    "ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[platform.machine()], 0)",
]  # fmt: skip
"""A process whose first thread ends and leaves the other one running."""
CHAIN = [sys.executable, "-I", "-S", "-c", "import os\nwhile True:\n    if os.fork(): os._exit(0)"]
"""A process that is another one all the time."""

ACTOR = """
import os, subprocess, sys, time
from infra.pool import birthmark, guardian
print(guardian.start(birthmark.Birthmark(int(sys.argv[1]))))
left = subprocess.Popen(["sleep", "3600"], start_new_session=True, env={}, stdout=subprocess.DEVNULL)
print(left.pid, flush=True)
if sys.argv[2] == "stays":
    time.sleep(3600)
"""

GATEWAY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2], "stays"])
time.sleep(3600)
"""


@contextmanager
def born_with(mark: Birthmark, job: int = 0, command: Sequence[str] = SLEEP) -> Iterator[int]:
    """A process that carries a mark, and gets an empty environment."""
    # It leads a group of its own, and what it turns into is in there.
    wear = partial(mark.wear, job)
    with subprocess.Popen(command, env={}, process_group=0, preexec_fn=wear) as process:  # noqa: PLW1509
        try:
            yield process.pid
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def gone(pids: Sequence[int], within_s: float = 60.0) -> bool:
    """Waits until the processes have ended."""
    poll = select.poll()
    for pid in pids:
        try:
            poll.register(os.pidfd_open(pid), select.POLLIN)
        except ProcessLookupError:
            continue
    left = len(pids)
    while left and (ready := poll.poll(within_s * 1000)):
        for handle, _ in ready:
            poll.unregister(handle)
            os.close(handle)
        left = len([pid for pid in pids if birthmark.is_alive(pid)])
    return left == 0


def test_marks_are_each_actors_own_and_fit_a_limit() -> None:
    numbers = {birthmark.fresh().number for _ in range(1000)}
    assert len(numbers) == 1000
    assert all(0 < number << 22 < 2**63 for number in numbers)


def test_what_is_born_with_a_mark_is_found_by_it_and_by_its_job() -> None:
    mark, other = birthmark.fresh(), birthmark.fresh()
    with born_with(mark) as kept, born_with(mark, 7) as left, born_with(other, 7) as foreign:
        assert sorted(mark.carriers()) == sorted([kept, left])
        assert mark.carriers(7) == [left]
        assert mark.carriers(8) == []
        assert mark.carriers(among=[foreign]) == []
        assert birthmark.end(mark, 7, within_s=30) == (1, 0)
        assert mark.carriers() == [kept]
        assert birthmark.end(mark, within_s=30) == (1, 0)
        assert other.carriers() == [foreign]


def test_the_count_of_jobs_wraps_around_and_never_means_what_outlives_them() -> None:
    mark = birthmark.fresh()
    with born_with(mark, 1 << 22) as left:
        assert mark.carriers(0) == []
        assert mark.carriers(1 << 22) == mark.carriers(1) == [left]


def test_a_zombie_is_none_of_the_living() -> None:
    mark = birthmark.fresh()
    with born_with(mark) as pid:
        os.kill(pid, signal.SIGKILL)
        assert gone([pid])
        assert mark.carriers() == []


def test_what_forks_all_the_time_is_ended_too() -> None:
    mark = birthmark.fresh()
    with born_with(mark, command=CHAIN):
        killed, left = birthmark.end(mark, within_s=30)
        assert (killed > 0, left) == (True, 0)
        assert mark.carriers() == []


def test_a_process_whose_first_thread_has_ended_is_none() -> None:
    mark = birthmark.fresh()
    with born_with(mark, command=HEADLESS) as pid:
        stat = Path(f"/proc/{pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert mark.carriers() == [pid]
        assert birthmark.end(mark, within_s=30) == (1, 0)
        assert not birthmark.is_alive(pid)


def test_a_thread_that_is_met_does_no_harm() -> None:
    mark = birthmark.fresh()
    with born_with(mark, command=THREADED) as pid:
        while len(tasks := os.listdir(f"/proc/{pid}/task")) < 2:
            time.sleep(0.01)
        (thread,) = {int(task) for task in tasks} - {pid}
        assert mark.carried_by(thread)
        assert birthmark._killed(mark, thread, None)
        assert mark.carriers() == [pid]
        assert birthmark.end(mark, within_s=30) == (1, 0)


def test_the_spared_process_is_spared() -> None:
    mark = birthmark.fresh()
    with born_with(mark) as spared, born_with(mark):
        assert birthmark.end(mark, spare=spared, within_s=30) == (1, 0)
        assert mark.carriers() == [spared]


def refused(handle: int, number: int) -> None:
    raise PermissionError


def test_what_does_not_die_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = birthmark.fresh()
    monkeypatch.setattr(signal, "pidfd_send_signal", refused)
    with born_with(mark):
        assert birthmark.end(mark, within_s=0) == (1, 1)


def test_where_no_limit_can_be_set_the_environment_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    def refused(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    mark = birthmark.fresh()
    monkeypatch.setattr(resource, "setrlimit", refused)
    monkeypatch.setenv(VARIABLE, "")
    assert not mark.wear(3)
    with subprocess.Popen(SLEEP, start_new_session=True) as process:
        try:
            # `exec` has begun when `Popen` returns; the environment can be read a moment later.
            while not Path(f"/proc/{process.pid}/environ").read_bytes():
                time.sleep(0.001)
            assert mark.carriers() == [process.pid]
            assert mark.carriers(3) == []
            assert birthmark.end(mark, within_s=30) == (1, 0)
        finally:
            process.kill()


def test_what_was_born_meanwhile_is_told_from_the_numbers_even_where_they_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(birthmark, "_pids", lambda: iter([1, 50, 100, 300, 301, 4000]))
    assert list(birthmark.born_between(100, 300)) == [300]
    assert list(birthmark.born_between(4, 4000)) == [4000, 301, 300, 100, 50]
    assert list(birthmark.born_between(301, 60)) == [50, 1, 4000]
    assert list(birthmark.born_between(301, 304)) == [304, 303, 302]


def test_the_newest_process_is_known() -> None:
    before = birthmark.last_pid()
    with subprocess.Popen(["true"]) as process:
        process.wait()
    after = birthmark.last_pid()
    assert before is not None
    assert after is not None
    assert before != after


# --- the guardian


def actor(mark: Birthmark, what: str) -> list[str]:
    return [sys.executable, "-c", ACTOR, str(mark.number), what]


@pytest.mark.parametrize("how", ["ends", "killed"])
def test_when_the_actor_ends_the_guardian_ends_what_is_left_and_itself(how: str) -> None:
    mark = birthmark.fresh()
    what = "stays" if how == "killed" else "ends"
    with subprocess.Popen(actor(mark, what), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"True\n"
        left = int(process.stdout.readline())
        if how == "killed":
            process.kill()
        assert gone([left])
        # The guardian has the actor's standard error, so its end is read here.
        assert process.stderr.read() == b""


def test_when_the_gateway_dies_the_actor_is_ended_though_it_sees_nothing() -> None:
    mark = birthmark.fresh()
    command = [sys.executable, "-c", GATEWAY, ACTOR, str(mark.number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"True\n"
        left = int(process.stdout.readline())
        assert len(mark.carriers()) == 2
        process.kill()
        assert gone([left])
        assert process.stderr.read() == b""
        assert mark.carriers() == []


def test_elsewhere_there_is_a_word_in_the_log_and_no_guardian(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not guardian.start(birthmark.fresh())
    assert [record.getMessage() for record in caplog.records] == [
        "on this system (darwin) a job's background processes are not found: they may outlive it"
    ]


def test_an_actor_without_a_guardian_is_marked_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worn: list[int] = []

    def wear(mark: Birthmark) -> bool:
        worn.append(mark.number)
        return True

    monkeypatch.setattr(Birthmark, "wear", wear)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    mark = birthmark.fresh()
    assert guardian.start(mark)
    assert worn == [mark.number]
    assert "no guardian could be started beside this actor: " in caplog.text


def test_an_older_kernel_is_such_a_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    assert not birthmark.supported()


def test_nothing_of_the_guardian_needs_more_than_the_standard_library(tmp_path: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import infra.pool.guardian"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, cwd=tmp_path)


# --- the gateway of a whole pool, killed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pool", "kind"),
    [
        ("process", "session-hangs"),
        ("process", "strippeddaemon-deaf"),
        ("process", "daemon-stops"),
        pytest.param("ray", "strippeddaemon-hangs", marks=pytest.mark.ray),
    ],
)
def test_nothing_of_a_job_outlives_a_gateway_that_was_killed(
    tmp_path: Path, pool: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-P", "-m", "tests.infra.nasty_driver", pool, kind, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline() == b"running\n"
        pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
        gateway.kill()
        began = time.monotonic()
        assert gone(pids)
        assert len(pids) == 2
    with capsys.disabled():
        print(f" [{time.monotonic() - began:.2f} s after its gateway]", end="")
