"""Components for runs over corpora: what `--code` is given. Knows no test."""

import os
import signal
import time
from pathlib import Path

from spacy.language import Language


@Language.factory(
    "trial", default_config={"log": "", "seconds": 0.0, "switch": "", "in_batches": 0}
)
class Trial:
    """Writes down each document it reads, and does what words in it say."""

    def __init__(
        self, nlp, name, log: str, seconds: float, switch: str, in_batches: int
    ):
        self.log, self.seconds, self.switch = log, seconds, switch
        if in_batches:
            self.pipe = self._pipe
        self._handler = None

    def __call__(self, doc):
        if self.log:
            with open(self.log, "ab", buffering=0) as out:
                out.write(f"{os.getpid()} {doc.text}\n".encode())
        time.sleep(self.seconds)
        if "boom" in doc.text:
            raise RuntimeError(f"no way to read {doc.text!r}")
        if "die" in doc.text:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.switch and Path(self.switch).exists():
            raise RuntimeError("the server is down")
        return doc

    def set_error_handler(self, handler):
        self._handler = handler

    def _pipe(self, stream, batch_size=None):
        docs = list(stream)
        try:
            docs = [self(doc) for doc in docs]
        except RuntimeError as error:
            self._handler("trial", self, docs, error)
        else:
            yield from docs
