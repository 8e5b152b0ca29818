"""A server on loopback that fails in every way an OpenAI-compatible endpoint can.

Counts what it is asked and what it answers. Real sockets, nothing canned in between.
"""

import json
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable, Dict, List, Optional

GOOD = '[("Ada Lovelace", "person"), ("London", "location")]'


def completion(text: Optional[str] = GOOD, reason: str = "stop", **message) -> dict:
    """The body of a right reply."""
    said = {"role": "assistant", "content": text, **message}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "teacher",
        "choices": [{"index": 0, "message": said, "finish_reason": reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds, so that no thread outlives a test run
    disable_nagle_algorithm = True  # or each response waits 40 ms for an ACK

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server: Server = self.server.owner
        with server.lock:
            server.n_requests += 1
            number = server.n_requests
            server.headers.append(dict(self.headers))
            server.times.append(time.monotonic())
        try:
            server.mode(self, content, number)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send(
        self, body: object, status: int = 200, kind="application/json", **headers
    ) -> None:
        """Send a response: bytes as they are, all else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def refuse(self, status: int, message: str, code=None, **headers) -> None:
        """Send an error as OpenAI writes it."""
        error = {"message": message, "type": "error", "param": None, "code": code}
        self.send({"error": error}, status, **headers)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        # the socket closes for good only when all that hold it do
        self.rfile.close()
        self.wfile._sock.close() if hasattr(self.wfile, "_sock") else None
        self.connection.close()
        self.close_connection = True


Mode = Callable[[Handler, bytes, int], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, mode: Mode) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.owner = self
        self.mode = mode
        self.lock = threading.Lock()
        self.n_requests = 0
        self.headers: List[dict] = []
        self.times: List[float] = []
        self.answered: Counter = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> "Server":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_) -> None:
        pass

    def shutdown_request(self, request) -> None:
        try:
            super().shutdown_request(request)
        except OSError:
            pass


def counting(delay: float = 0.0) -> Mode:
    """Answer right, and count the answers by the passage's first word."""

    def mode(handler: Handler, content: bytes, number: int) -> None:
        text = json.loads(content)["messages"][-1]["content"].split("Passage: ")[1]
        time.sleep(delay)
        with handler.server.lock:
            handler.server.answered[text.split()[0]] += 1
        handler.send(completion())

    return mode


def always(body: object = None, status: int = 200, **headers) -> Mode:
    """Send the same to everybody."""
    return lambda handler, content, number: handler.send(
        completion() if body is None else body, status, **headers
    )


def refusing(status: int, message: str, code=None, **headers) -> Mode:
    """Refuse everybody."""
    return lambda handler, content, number: handler.refuse(
        status, message, code, **headers
    )


def at_first(bad: Mode, n: int) -> Mode:
    """Fail n times, then be right."""

    def mode(handler: Handler, content: bytes, number: int) -> None:
        (bad if number <= n else always())(handler, content, number)

    return mode


def slow(seconds: float) -> Mode:
    def mode(handler: Handler, content: bytes, number: int) -> None:
        time.sleep(seconds)
        handler.send(completion())

    return mode


def half_open(handler: Handler, content: bytes, number: int) -> None:
    """Hold the line and say nothing."""
    time.sleep(8)
    handler.close_connection = True


def drip(handler: Handler, content: bytes, number: int) -> None:
    """A byte at a time: no read ever times out."""
    body = json.dumps(completion()).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    for at in range(40):
        handler.wfile.write(body[at : at + 1])
        handler.wfile.flush()
        time.sleep(0.2)
    handler.close_connection = True


def reset_in_body(handler: Handler, content: bytes, number: int) -> None:
    body = json.dumps(completion()).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[:50])
    handler.wfile.flush()
    handler.reset()


def echo_key(handler: Handler, content: bytes, number: int) -> None:
    """Repeat the key, as some gateways do."""
    sent = handler.headers.get("Authorization", "")
    handler.refuse(401, f"Incorrect API key provided: {sent}", "invalid_api_key")


def echo_key_in(status: int) -> Mode:
    def mode(handler: Handler, content: bytes, number: int) -> None:
        handler.refuse(status, f"Trouble with {handler.headers.get('Authorization')}")

    return mode


class BatchServer(Server):
    """Files and batches, as the Batch API has them; a batch is done when it is told."""

    def __init__(self, fail: Callable[[int], Optional[str]] = lambda i: None) -> None:
        super().__init__(self._route)
        self.files: Dict[str, bytes] = {}
        self.batches: Dict[str, dict] = {}
        self.fail = fail

    def finish(self, status: str = "completed") -> None:
        """Answer every request of every batch, but those that fail."""
        for name, batch in self.batches.items():
            if batch["status"] != "in_progress":
                continue
            outputs, errors = [], []
            for i, line in enumerate(self.files[batch["input_file_id"]].splitlines()):
                key = json.loads(line)["custom_id"]
                fault = self.fail(i)
                row: dict = {"id": f"r{i}", "custom_id": key, "error": None}
                if fault is None:
                    row["response"] = {"status_code": 200, "body": completion()}
                    self.answered[key] += 1
                    outputs.append(row)
                else:
                    row.update(response=None, error={"code": fault, "message": fault})
                    errors.append(row)
            for kind, rows in (("output", outputs), ("error", errors)):
                if rows:
                    self.files[f"{kind}-{name}"] = b"".join(
                        json.dumps(row).encode() + b"\n" for row in rows
                    )
                    batch[f"{kind}_file_id"] = f"{kind}-{name}"
            batch["status"] = status

    def _route(self, handler: Handler, content: bytes, number: int) -> None:
        parts = handler.path.split("?")[0].strip("/").split("/")[1:]
        if handler.command == "POST" and parts == ["files"]:
            boundary = handler.headers["Content-Type"].split("boundary=")[1].encode()
            pieces = content.split(b"--" + boundary)
            file = next(p for p in pieces if b'name="file"' in p)
            name = f"file-{len(self.files)}"
            self.files[name] = file.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n", 1)[0]
            handler.send({"id": name, "object": "file", "purpose": "batch"})
        elif handler.command == "POST" and parts == ["batches"]:
            name = f"batch-{len(self.batches)}"
            self.batches[name] = {
                "id": name,
                "object": "batch",
                "status": "in_progress",
                "input_file_id": json.loads(content)["input_file_id"],
                "request_counts": {"completed": 0, "failed": 0, "total": 0},
            }
            handler.send(self.batches[name])
        elif parts == ["batches"]:
            handler.send({"object": "list", "data": list(self.batches.values())})
        elif parts[0] == "batches" and parts[1] in self.batches:
            handler.send(self.batches[parts[1]])
        elif parts[0] == "files" and parts[1] in self.files:
            handler.send(self.files[parts[1]], kind="application/octet-stream")
        else:
            handler.refuse(404, "no such thing")


# ---- students: /v1/completions, and what servers of it have beside it


def written(text: str, *, n_prompt: int = 1, **choice) -> dict:
    """The body of a right completion."""
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "model": "student",
        "choices": [{"index": 0, "text": text, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": n_prompt, "completion_tokens": 3},
    }


class Completing:
    """Completes prompts, and can do as much as it is told to be able to."""

    def __init__(
        self,
        answer: Callable[[dict], str],
        *,
        bad: Optional[Mode] = None,
        when: Callable[[dict], bool] = lambda body: True,
        n_first: int = 2,
        logprobs: Optional[Callable[[dict], dict]] = None,
        takes: str = "",
        unknown: tuple = (),
        models: Optional[List[dict]] = None,
        counts: Optional[dict] = None,
    ) -> None:
        self.answer, self.bad, self.when = answer, bad, when
        self.n_first = n_first  # tokens of a prompt that is one marker
        self.logprobs, self.takes, self.unknown = logprobs, takes, unknown
        self.models, self.counts = models, counts
        self.bodies: List[dict] = []  # in the order in which they came

    def __call__(self, handler: Handler, content: bytes, number: int) -> None:
        if handler.path == "/v1/models":
            if self.models is None:
                handler.refuse(500, "no cache folder")
            else:
                handler.send({"object": "list", "data": self.models})
        elif handler.path == "/tokenize" and self.counts is not None:
            handler.send(self.counts)
        elif handler.path != "/v1/completions":
            handler.refuse(404, "Not Found")
        else:
            self.complete(handler, content, number)

    def complete(self, handler: Handler, content: bytes, number: int) -> None:
        body = json.loads(content)
        with handler.server.lock:
            self.bodies.append(body)
        if self.bad and self.when(body):
            self.bad(handler, content, number)
        elif set(self.unknown) & set(body):
            handler.refuse(422, "Unexpected fields in the request")
        else:
            handler.send(self.body(body))

    def body(self, body: dict) -> dict:
        grammar = body.get(self.takes)
        if isinstance(grammar, dict):
            grammar = grammar["grammar"]
        if grammar and "uniner" in grammar:
            return written('["uniner"]')
        choice: dict = {}
        if self.logprobs and "logprobs" in body:
            choice["logprobs"] = self.logprobs(body)
        return written(self.answer(body), n_prompt=self.n_first, **choice)
