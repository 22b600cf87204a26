"""An OpenAI-compatible endpoint that behaves as the name of the model says. Run as a program, in a process of its own.

Prints its port on one line, serves until its standard input ends. A model's name is `<text>` or `<text>/<score>`: how
it answers when asked for a text, and when asked to score. `#` and what follows only make a name unique.

    good            answers
    busy-<n>        429 for the first n requests, then answers
    down-<n>        503 for the first n requests, then answers
    status-<code>   that status, always
    slow            no answer at all
    html, deep, no-choices, no-message, empty, blank, cut, filtered, refused, thinking, long
                    what its name says, as the answer to a request for a text
    not-json, a-list, out-of-range, missing, extra, no-reason, fenced
                    what its name says, as the answer to a request to score

`GET /log` tells every request so far, `POST /reset` forgets them, `GET /seen/<model>` answers once that model is asked.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMPLETION = "/v1/chat/completions"


class State:
    """What the server remembers."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.log: list[dict[str, Any]] = []
        self.closing = threading.Event()

    def note(self, headers: dict[str, str], body: dict[str, Any]) -> int:
        """Keep a request; how many this model has had before."""
        with self.lock:
            before = sum(1 for entry in self.log if entry["body"]["model"] == body["model"])
            self.log.append({"headers": headers, "body": body})
            self.lock.notify_all()
            return before


STATE = State()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    # Head and body are written one after the other; without this the second waits 40 ms for the first's ACK.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        with STATE.lock:
            if self.path.startswith("/seen/"):
                model = self.path.removeprefix("/seen/")
                STATE.lock.wait_for(lambda: any(entry["body"]["model"] == model for entry in STATE.log), 20)
            self.reply(200, json.dumps(STATE.log).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/reset":
            with STATE.lock:
                STATE.log.clear()
            self.reply(200, b"{}")
        elif self.path == COMPLETION:
            request = json.loads(body)
            before = STATE.note({name.lower(): value for name, value in self.headers.items()}, request)
            self.complete(request, before)
        else:
            self.reply(404, b'{"error":{"message":"no such path"}}')

    def complete(self, request: dict[str, Any], before: int) -> None:
        text, _, score = request["model"].partition("#")[0].partition("/")
        scoring = "Score the proposal" in request["messages"][-1]["content"]
        how = (score or text) if scoring else text
        verb, _, number = how.partition("-")
        if verb in ("busy", "down"):
            if before < int(number):
                status = 429 if verb == "busy" else 503
                # The library waits as long as it is told to, so that no test has to.
                self.reply(status, b'{"error":{"message":"not now"}}', {"retry-after-ms": "1"})
                return
            how = "good"
        if verb == "status":
            self.reply(int(number), json.dumps({"error": {"message": f"because sk-secret {number}"}}).encode())
        elif how == "slow":
            STATE.closing.wait(60)
            self.close_connection = True
        elif scoring:
            self.say(SCORES.get(how, good_scores)(request))
        else:
            TEXTS.get(how, Handler.good)(self, request)

    def good(self, request: dict[str, Any]) -> None:
        self.say(good_text(request))

    def say(self, content: Any, **choice: Any) -> None:
        message = {"role": "assistant", "content": content, **choice.pop("message", {})}
        choices = [{"index": 0, "message": message, "finish_reason": "stop", **choice}]
        self.reply(200, json.dumps({"id": "1", "object": "chat.completion", "choices": choices}).encode())

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def good_text(request: dict[str, Any]) -> str:
    system, user = (message["content"] for message in request["messages"])
    name = system.partition("You are ")[2].partition(",")[0]
    if "says of it" in user:
        return f"{name} revises"
    return f"{name} criticises" if "Say what is wrong" in user else f"{name} proposes"


def good_scores(request: dict[str, Any]) -> str:
    """Marks that depend on the proposal, for the criteria that the prompt names."""
    words = request["messages"][-1]["content"]
    proposal = words.partition("<proposal>\n")[2].partition("\n</proposal>")[0]
    score = (sum(proposal.encode()) % 90 + 5) / 100
    return json.dumps({name: {"score": score, "reason": f"{name} seen"} for name in criteria(words)})


def criteria(words: str) -> list[str]:
    return re.findall(r'"([^"]+)": \{"score"', words)


def altered(change: Any) -> Any:
    def scores(request: dict[str, Any]) -> str:
        marks = json.loads(good_scores(request))
        change(marks)
        return json.dumps(marks)

    return scores


SCORES: dict[str, Any] = {
    "not-json": lambda request: "I would give it an eight.",
    "a-list": lambda request: "[0.5]",
    "out-of-range": altered(lambda marks: next(iter(marks.values())).update(score=8)),
    "missing": altered(lambda marks: marks.popitem()),
    "extra": altered(lambda marks: marks.update(overall={"score": 1, "reason": "all"})),
    "no-reason": altered(lambda marks: next(iter(marks.values())).update(reason="")),
    "fenced": lambda request: f"```json\n{good_scores(request)}\n```",
}

TEXTS: dict[str, Any] = {
    "html": lambda handler, request: handler.reply(200, b"<html>hello</html>", {"content-type": "text/html"}),
    "deep": lambda handler, request: handler.reply(200, b"[" * 100_000),
    "no-choices": lambda handler, request: handler.reply(200, b'{"choices":[]}'),
    "no-message": lambda handler, request: handler.reply(200, b'{"choices":[{}]}'),
    "empty": lambda handler, request: handler.say(None),
    "blank": lambda handler, request: handler.say(" \n "),
    "cut": lambda handler, request: handler.say("half a sen", finish_reason="length"),
    "filtered": lambda handler, request: handler.say("", finish_reason="content_filter"),
    "refused": lambda handler, request: handler.say(None, message={"refusal": "I would rather not"}),
    "thinking": lambda handler, request: handler.say(f"<think>\nhm\n</think>\n\n{good_text(request)}"),
    "long": lambda handler, request: handler.say("é" * 40_000),
}


class Server(ThreadingHTTPServer):
    """As many threads as there are connections; none of them keeps the process."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no error here."""


def main() -> None:
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    STATE.closing.set()
    server.shutdown()


if __name__ == "__main__":
    main()
