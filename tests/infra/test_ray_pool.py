"""`infra.pool.ray`: what the conformance suite cannot show, because it borrows the session's Ray."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import anyio
import anyio.to_thread
import pytest

from contracts.calls import Returned
from infra.pool.base import ConfigError, HostSpec, PoolEvent, PoolLost, Profile
from infra.pool.circuit import backoff_s
from infra.pool.provenance import ROOT
from infra.pool.ray.address import Address, parse_address
from infra.pool.ray.cluster import BorrowedRay, check_room
from infra.pool.ray.own_thread import in_own_thread, starting_alone
from infra.pool.ray.pool import RayPool
from infra.pool.ray.raylet import check_versions
from infra.pool.ray.tree import kill_below
from infra.pool.ray.workplace import Workplace
from tests.conformance.pool import hosts
from tests.conformance.pool.worlds import call
from tests.infra import ray_jobs

TOKEN = "5" * 64
HEAD_TRIES: Final = 4

# --- RAY_ADDRESS ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (None, Address()),
        ("", Address()),
        (" local ", Address()),
        ("head:6379", Address("head", 6379)),
        ("10.0.0.7:6380", Address("10.0.0.7", 6380)),
        ("ray-head.jetray.svc.cluster.local:6379", Address("ray-head.jetray.svc.cluster.local", 6379)),
        ("[fd00::1]:6379", Address("[fd00::1]", 6379)),
    ],
)
def test_addresses_that_are_understood(value: str | None, address: Address) -> None:
    assert parse_address(value) == address
    assert address.embedded == (address.host == "")
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "value",
    [
        "none", "auto", "head", "6379", ":6379", "head:", "head:0", "head:65536", "head:6379/", "head:6379 x",
        "-h:6379", "http://head:6379", "redis://head:6379", "LOCAL", "a b:6379", "head:６３７９", "head:6379\nx:1",
    ],
)  # fmt: skip
def test_other_addresses_are_refused_with_what_may_be_said(value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_address(value)
    assert str(refused.value).startswith(f"RAY_ADDRESS={value}: say local (or nothing)")


def test_an_address_answers_while_somebody_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        assert address.answers(5.0)
    assert not address.answers(5.0)


def test_ray_client_is_refused_with_what_to_use_instead() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_address("ray://head:10001")
    assert "RAY_ADDRESS=ray://head:10001: Ray Client (ray://) is for interactive use" in str(refused.value)
    assert "RAY_ADDRESS=HOST:6379" in str(refused.value)


# --- what else can be seen without a Ray ------------------------------------------------------------------------------


def versions(ray: str, python: str) -> Mapping[str, str]:
    return {"ray_version": ray, "python_version": python}


@pytest.mark.parametrize(
    ("level", "cluster", "fits"),
    [
        ("patch", versions("2.60.0", "3.11.7"), True),
        ("patch", versions("2.60.0", "3.11.9"), False),
        ("patch", versions("2.60.1", "3.11.7"), False),
        ("minor", versions("2.60.0", "3.11.9"), True),
        ("minor", versions("2.60.0", "3.12.7"), False),
        ("minor", versions("2.59.0", "3.11.7"), False),
    ],
)
def test_ray_must_match_exactly_and_python_to_the_patch(
    monkeypatch: pytest.MonkeyPatch, level: str, cluster: Mapping[str, str], fits: bool
) -> None:
    monkeypatch.setenv("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", level)
    ours = versions("2.60.0", "3.11.7")
    if fits:
        check_versions(Address("head", 6379), cluster, ours)
        return
    with pytest.raises(ConfigError) as refused:
        check_versions(Address("head", 6379), cluster, ours)
    text = str(refused.value)
    assert f"runs Ray {cluster['ray_version']} on Python {cluster['python_version']}" in text
    assert "this gateway Ray 2.60.0 on Python 3.11.7" in text
    assert ("MATCH_LEVEL=minor" in text) == (level == "patch")


def test_an_embedded_ray_says_what_it_has_no_room_for() -> None:
    profiles = [
        Profile(name="default", actors=4),
        Profile(name="gpu", actors=2, gpus=1),
        Profile(name="half", actors=1, gpus=0.5),
        Profile(name="big", actors=2, memory=8),
    ]
    check_room(profiles, {"CPU": 4, "GPU": 3, "memory": 16})
    with pytest.raises(ConfigError, match=r"profiles gpu, half: .* want gpus = 2.5, and this host has 2: lower gpus"):
        check_room(profiles, {"CPU": 4, "GPU": 2, "memory": 16})
    with pytest.raises(ConfigError, match=r"profiles big: .* want memory = 16, and this host has 15"):
        check_room(profiles, {"CPU": 4, "GPU": 3, "memory": 15})


def test_the_first_replacement_comes_at_once_and_later_ones_ever_later() -> None:
    assert [backoff_s(failures) for failures in (0, 1, 2, 3, 9, 10, 60)] == [0.0, 0.1, 0.2, 0.4, 25.6, 30.0, 30.0]


class Recorder:
    """A cluster that only notes who calls it."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.lost: str | None = None
        self._refusal = refusal
        self._aborted = threading.Event()

    def start(self) -> None:
        self.note("start")
        if self._refusal is not None:
            raise self._refusal

    def abort(self) -> bool:
        self.calls.append("abort")
        self._aborted.set()
        return True

    def loss(self) -> str | None:
        return self.lost

    def stop(self) -> None:
        self.note("stop")

    def note(self, name: str) -> None:
        self.calls.append(name)
        self.threads.add(threading.current_thread())


class Waiter(Recorder):
    """A cluster whose head never comes up."""

    waits = threading.Event()

    def start(self) -> None:
        self.note("start")
        self.waits.set()
        self._aborted.wait()


@pytest.mark.anyio
async def test_a_cluster_starts_and_stops_in_one_thread_that_is_not_ours() -> None:
    cluster = Recorder()
    async with in_own_thread(cluster):
        (thread,) = cluster.threads
        assert thread.is_alive()
    assert cluster.calls == ["start", "abort", "stop"]
    assert cluster.threads == {thread}
    assert thread is not threading.current_thread()


@pytest.mark.anyio
async def test_a_cluster_that_refuses_is_stopped_and_says_so_itself() -> None:
    cluster = Recorder(ConfigError("no room"))
    with pytest.raises(ConfigError, match="no room"):
        async with in_own_thread(cluster):
            raise AssertionError("it did not start")
    assert cluster.calls == ["start", "abort", "stop"]


@pytest.mark.anyio
async def test_whoever_is_cancelled_while_a_cluster_starts_does_not_wait_for_its_head() -> None:
    cluster = Waiter()
    async with anyio.create_task_group() as tasks:

        async def have() -> None:
            async with in_own_thread(cluster):
                raise AssertionError("it did not start")

        tasks.start_soon(have)
        await anyio.to_thread.run_sync(cluster.waits.wait)
        tasks.cancel_scope.cancel()
    assert cluster.calls == ["start", "abort", "stop"]


class Stubborn(Waiter):
    """A cluster whose start cannot be hurried, and ends with the process alone."""

    def abort(self) -> bool:
        self.calls.append("abort")
        return False

    def end(self) -> None:
        self._aborted.set()


@pytest.mark.anyio
async def test_a_start_that_cannot_be_hurried_is_left_behind_and_known_to_be() -> None:
    cluster = Stubborn()
    cluster.waits = threading.Event()
    assert not starting_alone()
    async with anyio.create_task_group() as tasks:

        async def have() -> None:
            async with in_own_thread(cluster):
                raise AssertionError("it did not start")

        tasks.start_soon(have)
        await anyio.to_thread.run_sync(cluster.waits.wait)
        tasks.cancel_scope.cancel()
    assert cluster.calls == ["start", "abort"]
    assert starting_alone()
    cluster.end()
    (thread,) = cluster.threads
    thread.join()
    assert not starting_alone()


TREE = """
import subprocess, sys
inner = "import subprocess; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"
subprocess.run([sys.executable, '-c', inner])
"""


@pytest.mark.slow
def test_what_a_process_started_is_killed_and_what_that_started_and_not_itself() -> None:
    with subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True) as root:
        assert root.stdout is not None
        grandchild = os.pidfd_open(int(root.stdout.readline()))
        kill_below(root.pid)
        assert select.select([grandchild], [], [], 60)[0] == [grandchild]
        os.close(grandchild)
        assert root.wait(60) == 0, "it saw its child end, and ended by itself"


@pytest.mark.anyio
async def test_a_cluster_that_is_lost_ends_the_block_with_one_line() -> None:
    cluster = Recorder()

    async def lose_it() -> None:
        async with in_own_thread(cluster):
            cluster.lost = "Ray's raylet was ended by SIGKILL"
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as ended:
        await lose_it()
    (lost,) = ended.value.exceptions
    assert isinstance(lost, PoolLost)
    assert str(lost).startswith("Ray's raylet was ended by SIGKILL: this gateway ends, so that ")
    assert cluster.calls == ["start", "abort", "stop"]
    assert not starting_alone(), "its thread has ended"


def test_a_workplace_is_short_and_leaves_nothing(tmp_path: Path) -> None:
    workplace = Workplace()
    assert len(str(workplace.path)) < 40
    (workplace.path / "session").mkdir()
    workplace.remove()
    assert not workplace.path.exists()


def test_a_workplace_whose_owner_was_killed_is_swept_and_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("infra.pool.ray.workplace.LONGEST_BASE", 1000)
    in_use = Workplace(str(tmp_path))
    program = f"from infra.pool.ray.workplace import *; import os; Workplace({str(tmp_path)!r}); os._exit(9)"
    program = f"import infra.pool.ray.workplace as w; w.LONGEST_BASE = 1000; {program}"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    (orphan,) = set(tmp_path.iterdir()) - {in_use.path}
    unrelated = tmp_path / "jetray-ray-notes"
    unrelated.mkdir()
    fresh = Workplace(str(tmp_path))
    assert not orphan.exists()
    assert set(tmp_path.iterdir()) == {in_use.path, fresh.path, unrelated}
    fresh.remove()
    in_use.remove()


# --- with Ray ---------------------------------------------------------------------------------------------------------


@pytest.mark.ray
def test_rays_exceptions_mean_lost_or_not_fit_to_run() -> None:
    from ray import exceptions as ray_exceptions
    from ray.exceptions import RayTaskError

    from infra.pool.ray.errors import meaning

    built_wrong = RayTaskError(
        "JobActor.__init__", "Traceback …\n\x1b[36mray::\x1b[39m", ModuleNotFoundError("No module named 'infra'")
    )
    table = [
        (ray_exceptions.ActorDiedError(), "lost", "ActorDiedError"),
        (ray_exceptions.ActorDiedError(built_wrong), "config", "ModuleNotFoundError"),
        (ray_exceptions.ActorUnavailableError("rpc", None), "lost", "ActorUnavailableError"),
        (ray_exceptions.OutOfMemoryError("too much"), "lost", "OutOfMemoryError"),
        (ray_exceptions.NodeDiedError("gone"), "lost", "NodeDiedError"),
        (ray_exceptions.WorkerCrashedError(), "lost", "WorkerCrashedError"),
        (ray_exceptions.RuntimeEnvSetupError("pip: no such package"), "config", "RuntimeEnvSetupError"),
        (ray_exceptions.ActorUnschedulableError("its node is dead"), "config", "ActorUnschedulableError"),
    ]
    for error, reason, name in table:
        info = meaning(error)
        assert (info.reason, info.type, info.retryable) == (reason, name, reason == "lost")
        assert "\n" not in info.message
        assert "\x1b" not in info.message
    assert meaning(table[1][0]).message == "No module named 'infra'"
    assert "pip: no such package" in meaning(table[6][0]).message


@pytest.mark.ray
def test_actors_are_made_as_their_profile_says() -> None:
    from infra.pool.ray.handle import options

    small = options(Profile(name="default", actors=1), "jetray-gw-1-default-1")
    assert small["name"] == "jetray-gw-1-default-1"
    assert (small["num_cpus"], small["num_gpus"], small["memory"], small["runtime_env"]) == (1.0, 0.0, None, None)
    assert (small["max_restarts"], small["max_task_retries"], small["enable_task_events"]) == (0, 0, False)
    env = {"env_vars": {"A": "1"}}
    large = options(
        Profile(name="gpu", actors=1, cpus=2, gpus=0.5, memory=1 << 30, concurrency=8, runtime_env=env), "x"
    )
    assert (large["num_cpus"], large["num_gpus"], large["memory"], large["runtime_env"]) == (2, 0.5, 1 << 30, env)
    assert large["max_concurrency"] > 8


@pytest.mark.ray
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("runtime_env", "line"),
    [
        (
            {"working_dir": "file:///nowhere/at-all.zip"},
            r"RuntimeEnvSetupError: .* FileNotFoundError: .*'/nowhere/at-all.zip'",
        ),
        ({"env_vars": {"THREADS": 1}}, r"TypeError: runtime_env\['env_vars'\] must be of type Dict\[str, str\]"),
    ],
)
async def test_a_runtime_env_that_cannot_be_had_is_a_wrong_setting(
    ray_session: None, runtime_env: dict[str, Any], line: str
) -> None:
    profile = Profile(name="env", actors=1, cpus=0.1, runtime_env=runtime_env)
    events: list[PoolEvent] = []
    pool = RayPool([profile], HostSpec(factory=hosts.FACTORY, config=b""), gateway="gw-1", cluster=BorrowedRay())
    with pytest.raises(ConfigError, match=f"profile env: no actor can start: {line}") as refused:
        await pool.serve(events.append)
    assert "Traceback" not in str(refused.value)
    assert [event.what for event in events] == ["failed"]


@pytest.mark.anyio
@pytest.mark.ray
@pytest.mark.parametrize("kind", ["awaits", "blocks", "waits in a thread"])
async def test_a_job_may_use_the_ray_that_it_runs_on(ray_session: None, kind: str) -> None:
    profile = Profile(name="nested", actors=1, cpus=0.1)
    pool = RayPool([profile], HostSpec(factory=ray_jobs.FACTORY, config=b""), gateway="gw-1", cluster=BorrowedRay())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.serve, lambda event: None)
        reservation = await pool.reserve("nested", exclusive=False)
        outcome = await reservation.start(call(kind, b"21")).outcome()
        assert outcome == Returned(result=f"42 in {reservation.actor}".encode())
        tasks.cancel_scope.cancel()


@pytest.mark.ray
@pytest.mark.slow
def test_an_embedded_ray_starts_beside_us_and_leaves_nothing() -> None:
    done, session = driven()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    check_seen(seen)
    assert seen["cpus_here"] >= 2
    assert running_in(session) == []
    assert not Path(seen["workplace"]).exists()


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster's head on this host, once it says that it runs."""
    workplace = Workplace()
    log = tmp_path_factory.mktemp("head") / "log"
    try:
        with started_head(workplace, log) as address:
            yield address
    finally:
        workplace.remove()


@contextmanager
def started_head(workplace: Workplace, log: Path) -> Iterator[str]:
    """Ray gives its own node 30 s to appear and then gives up: too little under load, so there are further tries."""
    for _ in range(HEAD_TRIES):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            "--head", "--block", f"--port={port}", "--num-cpus=2", "--include-dashboard=false",
            "--object-store-memory=80000000", f"--temp-dir={workplace.path}", "--dashboard-agent-listen-port=0",
        ]  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(PYTHONUNBUFFERED="1"),
            cwd=ROOT,
        ) as process:
            assert process.stdout is not None
            try:
                if says(process.stdout, b"Ray runtime started", log):
                    # It goes on to write, into a pipe that nobody else reads.
                    rest = threading.Thread(target=says, args=(process.stdout, None, log))
                    rest.start()
                    try:
                        yield f"127.0.0.1:{port}"
                        return
                    finally:
                        process.terminate()
                        rest.join()
            finally:
                process.terminate()
    raise AssertionError(f"no Ray head came up in {HEAD_TRIES} tries; it said:\n{log.read_text(errors='replace')}")


def says(output: IO[bytes], words: bytes | None, log: Path) -> bool:
    """Copy output to a log: up to a line with these words, or, False, to its end."""
    with log.open("ab") as copy:
        for line in output:
            copy.write(line)
            copy.flush()
            if words is not None and words in line:
                return True
    return False


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(360)
def test_a_cluster_is_joined_through_a_raylet_without_cpus(head: str) -> None:
    done, _ = driven(head)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    check_seen(seen)
    assert seen["cpus_here"] == 0
    assert not Path(seen["workplace"]).exists()
    assert [line for line in processes("args") if seen["workplace"] in line] == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(360)
def test_a_cluster_that_does_not_fit_is_one_clear_line(head: str) -> None:
    refused, _ = driven(head, RAY_AUTH_TOKEN="6" * 64)
    assert (refused.returncode, refused.stdout.count("\n")) == (78, 1)
    assert f"the Ray cluster at {head} wants its token" in refused.stdout
    pretend(head, versions("2.59.0", "3.11.1"))
    refused, _ = driven(head)
    assert (refused.returncode, refused.stdout.count("\n")) == (78, 1)
    assert f"the Ray cluster at {head} runs Ray 2.59.0 on Python 3.11.1, and this gateway Ray " in refused.stdout


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("infra", "ImportError: jetray cannot be imported where actors run: No module named 'infra.pool'; it is not"),
        ("workers", "ConfigError: package workers is not jetray's: Python finds {path}/workers/__init__.py before"),
    ],
)
def test_a_foreign_package_where_actors_run_is_one_clear_line(tmp_path: Path, name: str, line: str) -> None:
    # Ray puts the working directory before everything else in its workers, and there alone.
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    done, _ = driven(cwd=tmp_path)
    assert (done.returncode, done.stdout.count("\n")) == (78, 1), done.stdout + done.stderr
    assert f"profile default: no actor can start: {line.format(path=tmp_path)}" in done.stdout


def check_seen(seen: dict[str, Any]) -> None:
    assert seen["ticks"] > 20
    assert seen["killed"]
    assert not seen["left_running"]
    assert "configured" in seen["echo"]
    assert "ActorDiedError" in seen["died"]
    assert "PoolStopped" in seen["busy"]
    assert seen["sigterm"]
    assert all(name.startswith("jetray-gw-1-default-") for name in seen["names"])
    assert {"initialized", "created", "failed", "restarted", "retired"} <= set(seen["events"])


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "PYTHONPATH": path, **more}


def driven(*address: str, cwd: Path = ROOT, **more: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run `tests.infra.ray_driver` to its end; also its session, in which all that it started is, but a raylet."""
    command = [sys.executable, "-P", "-m", "tests.infra.ray_driver", *address]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**more),
        cwd=cwd,
        text=True,
        start_new_session=True,
    ) as process:
        out, err = process.communicate(timeout=100)
    return subprocess.CompletedProcess(command, process.returncode, out, err), process.pid


def running_in(session: int) -> list[str]:
    """What runs in a session. Zombies do not."""
    lines = [line.split(None, 2) for line in processes("sid,stat,args")]
    return [args for sid, state, args in lines if sid == str(session) and not state.startswith("Z")]


def processes(columns: str) -> list[str]:
    listed = subprocess.run(["ps", "-ww", "-eo", columns], capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()[1:]


def pretend(head: str, found: Mapping[str, str]) -> None:
    """Have the cluster say that it runs other versions."""
    program = f"""
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._raylet import GcsClient
data = {json.dumps(dict(found)).encode()!r}
GcsClient(address={head!r}).internal_kv_put(CLUSTER_METADATA_KEY, data, True, KV_NAMESPACE_CLUSTER)
"""
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True)
