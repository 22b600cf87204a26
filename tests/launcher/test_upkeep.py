"""`jetray apply` and `jetray asyncapi`."""

from __future__ import annotations

import msgspec
import pytest
import pytest_asyncio

from infra.bus.embedded import nats_server
from infra.bus.nats import connect
from tests.launcher import processes


@pytest_asyncio.fixture
async def server(tmp_path_factory):
    async with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


def apply(tmp_path, url, *arguments):
    return processes.jetray("apply", *arguments, cwd=tmp_path, NATS_URL=url)


@pytest.mark.server
@pytest.mark.asyncio
async def test_it_creates_what_is_missing_once(tmp_path, server):
    before = apply(tmp_path, server, "--check")
    first = apply(tmp_path, server)
    again = apply(tmp_path, server)
    after = apply(tmp_path, server, "--check")

    assert (before.returncode, before.stderr) == (1, "differs\n")
    assert "stream JOBS: missing" in before.stdout.splitlines()
    assert "consumer JOBS/deliberation: missing" in before.stdout.splitlines()
    assert (first.returncode, again.returncode) == (0, 0)
    assert first.stdout == before.stdout
    assert (again.stdout, again.stderr) == ("", "all was as wanted\n")
    assert (after.returncode, after.stdout, after.stderr) == (0, "", "all as wanted\n")


@pytest.mark.server
@pytest.mark.asyncio
async def test_check_only_compares_and_says_each_difference(tmp_path, server):
    apply(tmp_path, server)
    (tmp_path / "jetray.toml").write_text("[gateway]\nack_wait_s = 30\n[streams]\njobs_per_kind = 7")

    checked = apply(tmp_path, server, "--check")
    still = apply(tmp_path, server, "--check")

    assert checked.returncode == 1
    assert checked.stdout == still.stdout
    assert "stream JOBS: max_msgs_per_subject is 100000, wanted 7" in checked.stdout.splitlines()
    assert "consumer JOBS/plan: ack_wait is 60000000000, wanted 30000000000" in checked.stdout.splitlines()

    assert apply(tmp_path, server).returncode == 0
    assert apply(tmp_path, server, "--check").returncode == 0


@pytest.mark.server
@pytest.mark.asyncio
async def test_a_foreign_stream_of_our_name_is_refused_and_left_alone(tmp_path, server):
    async with connect(server, name="test", wait=False) as bus:
        await bus.api("STREAM.CREATE.EVENTS", {"name": "EVENTS", "subjects": ["theirs.>"]})

    for arguments in ((), ("--check",)):
        refused = apply(tmp_path, server, *arguments)
        assert refused.returncode == 78
        assert refused.stderr.startswith("jetray: stream EVENTS exists with subjects that are not ours (theirs.>)")
        assert len(refused.stderr.splitlines()) == 1

    async with connect(server, name="test", wait=False) as bus:
        assert (await bus.api("STREAM.INFO.EVENTS", None))["config"]["subjects"] == ["theirs.>"]


@pytest.mark.server
@pytest.mark.asyncio
async def test_a_route_that_nobody_owns_is_exit_status_78(tmp_path, server):
    (tmp_path / "jetray.toml").write_text('[[routes]]\nsubject = "design.approved"\nkind = "plan"')

    refused = apply(tmp_path, server)

    assert refused.returncode == 78
    assert "no stream owns the routed subject design.approved" in refused.stderr


@pytest.mark.server  # none is needed, but the client takes a second to believe it
def test_without_a_server_it_is_one_line_and_exit_status_1(tmp_path):
    failed = apply(tmp_path, "nats://me:secret@127.0.0.1:9")

    assert failed.returncode == 1
    assert failed.stderr.startswith("jetray: no NATS server at nats://***@127.0.0.1:9")
    assert len(failed.stderr.splitlines()) == 1


def test_a_route_to_an_unknown_kind_is_exit_status_78(jetray, tmp_path):
    (tmp_path / "jetray.toml").write_text('[[routes]]\nsubject = "a.b"\nkind = "score"')

    refused = jetray("asyncapi")

    assert refused.returncode == 78
    assert "a.b starts score, and there is no such kind (batch, deliberation, plan, variant)" in refused.stderr


def test_the_document_tells_every_kind_on_its_subjects(jetray):
    printed = jetray("asyncapi", NATS_URL="nats://me:secret@bus.example:4333")

    document = msgspec.json.decode(printed.stdout)
    assert printed.returncode == 0
    assert document["asyncapi"] == "3.0.0"
    assert {"jobs.plan", "jobs.deliberation", "jobs.deliberation.high", "planning.plan.approved"} <= set(
        document["channels"]
    )
    assert document["servers"]["bus"]["host"] == "bus.example:4333"
    assert "secret" not in printed.stdout
