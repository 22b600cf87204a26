"""`jetray try`."""

from __future__ import annotations

import msgspec
import pytest

from tests.kinds.files import sha256
from tests.launcher import processes

pytestmark = pytest.mark.slow

KINDS = """
from msgspec import Struct
from workers import Child, Fail, JobContext, Retry, batch, job

class In(Struct, forbid_unknown_fields=True):
    word: str = "word"

class Limit(Struct):
    letters: int = 3

@job("say")
def say(ctx: JobContext, item: In) -> str:
    ctx.progress(done=1, total=2, message="half way")
    ctx.emit("note.made", {"by": ctx.job_id})
    return item.word

@job("cut", profile="nowhere")
class Cut:
    def __init__(self, limit: Limit) -> None:
        self.limit = limit
    async def run(self, item: In) -> str:
        return item.word[: self.limit.letters]

@job("fail")
def fail(item: In) -> str | Fail:
    return Fail("not today", reason="dependency")

@job("again")
def again(item: In) -> str | Retry:
    return Retry("busy", after=5)

@job("crash")
def crash(item: In) -> str:
    return 1 / 0

@job("wrong")
def wrong(item: In) -> str:
    return {"not": "a text"}

@job("files")
def files(ctx: JobContext, item: In) -> str:
    text = (ctx.stage({"in.csv": item.word}) / "in.csv").read_text()
    (ctx.workspace / "output" / "out.csv").write_text(text * 2)
    ctx.track()
    (ctx.workspace / "output" / "link").symlink_to("/")
    ctx.track()
    return text

@job("slow", deadline=0.05)
async def slow(item: In) -> str:
    import anyio
    await anyio.sleep_forever()

@batch("many")
class Many:
    def expand(self, item: In) -> list[Child]:
        return []
    def reduce(self, item: In, ends: list) -> str:
        return ""
"""


@pytest.fixture
def folder(jetray, tmp_path):
    (tmp_path / "mykinds.py").write_text(KINDS)
    (tmp_path / "input.json").write_text('{"word": "hello"}')
    return tmp_path


def test_the_result_goes_to_standard_output_and_frames_to_standard_error(jetray, folder):
    tried = jetray("try", "mykinds:say", "input.json")

    assert tried.returncode == 0
    assert msgspec.json.decode(tried.stdout) == "hello"
    assert tried.stderr.splitlines() == ["progress done=1 total=2 message=half way", 'agent.note.made {"by":"try"}']


def test_files_are_staged_and_what_was_tracked_is_told(jetray, folder):
    (folder / "data.csv").write_text("one")
    manifest = f'[{{"bytes":6,"name":"out.csv","sha256":"{sha256(b"oneone")}"}}]'.encode()

    tried = jetray("try", "mykinds:files", "-", stdin=f'{{"word": "file://{folder}/data.csv"}}')

    assert tried.stdout == '"one"\n'
    assert tried.stderr.splitlines() == [
        f"files_tracked {sha256(manifest)}",
        f"  out.csv (6 bytes, sha256 {sha256(b'oneone')})",
        "files_tracking_failed Untrackable: link is a link",
        "  link",
    ]
    assert sorted(path.name for path in folder.iterdir() if path.suffix) == ["data.csv", "input.json", "mykinds.py"]


def test_what_may_not_be_staged_is_told(jetray, folder):
    tried = jetray("try", "mykinds:files", "-", stdin='{"word": "file:///etc/passwd"}')

    assert tried.returncode == 78
    assert "input 'in.csv' cannot be staged: it may not be staged: 'file:///etc/passwd' is not below " in tried.stderr


def test_a_kind_is_found_by_the_name_of_its_function_too(jetray, folder):
    assert jetray("try", "mykinds:Cut", "input.json").stdout == '"hel"\n'


def test_the_input_may_come_from_standard_input(jetray, folder):
    assert jetray("try", "mykinds:say", "-", stdin='{"word": "there"}').stdout == '"there"\n'


def test_a_kind_gets_its_settings(jetray, folder):
    (folder / "my.toml").write_text("[kinds.settings.cut.config]\nletters = 1")

    assert jetray("try", "mykinds:cut", "input.json", "--config", "my.toml").stdout == '"h"\n'


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("fail", "jetray: fail failed (dependency): Fail: not today"),
        ("again", "jetray: again asks to be tried again after 5 s (user): Retry: busy"),
        ("slow", "jetray: slow failed (deadline): DeadlineExceeded: the job did not end before its deadline"),
        ("many", "jetray: many is a batch kind, whose children run elsewhere: publish it to a stack of `jetray up`"),
    ],
)
def test_what_does_not_succeed_is_a_line_and_exit_status_1(jetray, kind, line, folder):
    tried = jetray("try", f"mykinds:{kind}", "input.json")

    assert tried.returncode == 1
    assert tried.stdout == ""
    assert tried.stderr.splitlines() == [line]


def test_a_result_of_the_wrong_type_is_told(jetray, folder):
    tried = jetray("try", "mykinds:wrong", "input.json")

    assert tried.returncode == 1
    assert "jetray: wrong failed (user): BadResult: the result does not fit the kind's result type" in tried.stderr


def test_of_an_error_nobody_expected_its_author_sees_the_traceback(folder):
    # pytest has its own way with logs in its own process.
    tried = processes.jetray("try", "mykinds:crash", "input.json", cwd=folder)

    assert tried.returncode == 1
    assert "return 1 / 0" in tried.stderr
    last = tried.stderr.splitlines()[-1]
    assert last == "jetray: crash asks to be tried again (user): ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("target", "text", "status", "line"),
    [
        ("mykinds:say", '{"word": 3}', 1, "jetray: - is no input of say: Expected `str`, got `int` - at `$.word`"),
        ("mykinds:say", "[" * 100, 1, "jetray: - is no input of say: nested deeper than 64"),
        ("mykinds", "{}", 1, "jetray: mykinds is not MODULE:KIND, as in score_text:score-text"),
        ("mykinds:nope", "{}", 78, "jetray: mykinds holds no kind nope (it holds again, crash, cut, fail, files, many"),
        ("nokinds:say", "{}", 78, "jetray: nokinds cannot be imported: No module named 'nokinds'"),
        ("json:say", "{}", 78, "jetray: json holds no kind say (it holds none; decorate a function with @job)"),
    ],
)
def test_what_cannot_be_tried_is_one_line(jetray, target, text, status, line, folder):
    tried = jetray("try", target, "-", stdin=text)

    assert tried.returncode == status
    assert len(tried.stderr.splitlines()) == 1
    assert tried.stderr.startswith(line)


def test_a_file_that_is_not_there_is_told(jetray, folder):
    tried = jetray("try", "mykinds:say", "nowhere.json")

    assert tried.returncode == 1
    assert tried.stderr == "jetray: nowhere.json cannot be read: No such file or directory\n"


def test_settings_that_do_not_fit_the_kind_are_78(jetray, folder):
    (folder / "jetray.toml").write_text('[kinds.settings.cut.config]\nletters = "many"')

    tried = jetray("try", "mykinds:cut", "input.json")

    assert tried.returncode == 78
    assert tried.stderr.startswith("jetray: kind cut: its settings do not fit: Expected `int`, got `str`")
