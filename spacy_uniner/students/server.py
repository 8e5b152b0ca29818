"""A student behind an OpenAI-compatible server: vLLM, `transformers serve`, llama.cpp.

Sends raw prompts to /completions, many at a time, the types of a passage one after
another. Contacts the server on first use, never on construction; pickled without
connections and without the key, which stays in the environment.
What a server can do is found out in `serving.probing`, how it is asked in
`serving.asking` and `serving.client`.
"""

import logging
import os
import threading
import warnings
from typing import Any, Dict, List, Optional, Sequence

from spacy import registry

from ..errors import Errors, Warnings
from ..prompt import check_type, check_unicode
from ..types import Answer, Question
from .serving.address import read_key
from .serving.asking import Asking, Outcome, mark
from .serving.client import Client
from .serving.probing import Abilities, probe
from .serving.prompts import estimate_tokens, make_copy
from .serving.replies import Fault
from .serving.settings import Settings

logger = logging.getLogger(__name__)

PROMPT_TOKENS = 128  # tokens kept for template and type
MIN_COUNTED = 64  # characters; shorter texts are not worth a request
COUNTING = 5.0  # seconds for a server to count tokens
NO_GRAMMARS = (
    "it takes no grammars, so answers can't be held to stretches of the passage, without "
    "which students of the template 'mini' make names up. Serve it with vLLM or llama.cpp"
)
NO_LIST = (
    "asked about a person, it says {answer!r}, which is no JSON list. Check `model` and "
    "`template`; servers leave special tokens out of their text, so students whose lists "
    "are made of them need a copy: spacy_uniner.students.serving.folder.write_copy"
)


@registry.misc("spacy-uniner.ServerStudent.v1")
def make_server_student(
    *,
    url: str,
    model: str,
    template: str = "uniner",
    key_env: Optional[str] = None,
    concurrency: int = 32,
    timeout: float = 120.0,
    retries: int = 3,
    max_passage_tokens: int = 256,
    max_new_tokens: int = 256,
    on_error: str = "raise",
    constraint: str = "auto",
    dataset: Optional[str] = None,
) -> "ServerStudent":
    """Create a student that runs on a server. Documents are sent there, on first use
    and not before.

    url (str): Address of the server's API, such as http://localhost:8000/v1.
    model (str): Name of the model there.
    template (str): Prompt template that the model was trained with.
    key_env (Optional[str]): Environment variable that holds the key; None for no key.
    concurrency (int): Requests in flight.
    timeout (float): Seconds for a question, all attempts and pauses together.
    retries (int): Attempts after the first.
    max_passage_tokens (int): Longest passage, in tokens.
    max_new_tokens (int): Longest answer, in tokens.
    on_error (str): What to do about a question without an answer: "raise", or "mark"
        its answer as unreadable (truncated, if the passage is too long) and go on.
    constraint (str): What answers are held to, where the server takes grammars:
        "copy" for lists of stretches of the passage, from word to word; "list" for
        lists of any strings; "none"; "auto" for "copy" with the template "mini", whose
        students learn to choose among copies only, and "list" with others.
    dataset (Optional[str]): Name for the dataset field of the prompt.
    RETURNS (ServerStudent): The student.
    RAISES (ValueError): U001, U034, U039, U048, U095, if a setting is not allowed.
    """
    return ServerStudent(
        Settings(
            url,
            model,
            template=template,
            key_env=key_env,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
            max_passage_tokens=max_passage_tokens,
            max_new_tokens=max_new_tokens,
            on_error=on_error,
            constraint=constraint,
            dataset=dataset,
        )
    )


class ServerStudent:
    """Answers questions with a model on a server."""

    def __init__(self, settings: Settings) -> None:
        """Prepare a student; nothing is sent.

        settings (Settings): Where the server is, and how to ask it.
        """
        self.settings = settings
        self._forget()

    def _forget(self) -> None:
        """Be as new: no contact with the server."""
        self._client: Optional[Client] = None
        self._abilities: Optional[Abilities] = None
        self._counts = True  # whether the server counts tokens, as far as is known
        self._lock = threading.Lock()

    @property
    def identity(self) -> str:
        """RETURNS (str): All that answers depend on, for those who keep them; no key."""
        return self.settings.identity

    @property
    def max_passage_tokens(self) -> int:
        """RETURNS (int): Longest passage, in tokens."""
        return self.settings.max_passage_tokens

    @property
    def abilities(self) -> Optional[Abilities]:
        """RETURNS (Optional[Abilities]): What the server was found to do; None before
        the first answer."""
        return self._abilities

    def count_tokens(self, text: str) -> int:
        """Count tokens. The server does where it can (vLLM and llama.cpp: /tokenize),
        for texts of 64 characters and more. Else they are estimated from characters,
        rather too many than too few.

        text (str): Any text.
        RETURNS (int): Its length, in tokens.
        RAISES (ValueError): U096, if there is no key.
        """
        if self._counts and len(text) >= MIN_COUNTED:
            found = self._count(text)
            if found is not None:
                return found
            self._counts = False  # or it would be asked for every document
        return estimate_tokens(text)

    def _count(self, text: str) -> Optional[int]:
        """Let the server count; None if it does not."""
        client = self._connect()
        sent = make_copy(text, template=self.settings.template).text
        body: Dict[str, Any] = {"model": self.settings.model}
        body |= {"prompt": sent, "add_special_tokens": False}  # vLLM
        body |= {"content": sent, "add_special": False}  # llama.cpp
        url = f"{client.address.root}/tokenize"
        ask = client.ask(url, body, check=dict, retries=0, timeout=COUNTING)
        try:
            tokens = client.run(ask).get("tokens")
        except Fault:
            return None
        return len(tokens) if isinstance(tokens, list) else None

    def __call__(self, questions: Sequence[Question]) -> List[List[Answer]]:
        """Answer questions.

        questions (Sequence[Question]): Passages, each with its types.
        RETURNS (List[List[Answer]]): For each passage one answer per type, in order. An
            answer whose text is empty was never given.
        RAISES (ValueError): U002, U003, if a question can't be asked; U096, if there is
            no key; U100, if the server reads less than the settings want.
            (RuntimeError): U097, U098, U099, if a question gets no answer, and
            `on_error` is "raise".
            (ImportError): U038, if the HTTP client is not installed.
        """
        for passage, types in questions:
            check_unicode(passage)
            for entity_type in types:
                check_type(entity_type)
        n = sum(len(types) for _, types in questions)
        if not n:
            return [[] for _ in questions]
        try:
            client = self._connect()
            asking = Asking(client, self._probe(client), self.settings, questions)
            outcome = client.run(asking.run())
        except Fault as fault:
            if self.settings.on_error == "raise":
                raise self._error(fault) from None
            outcome = Outcome([mark(fault)] * n, n, fault)
        if outcome.fault:
            message = Warnings.U107.format(
                failed=outcome.n_failed,
                n=n,
                host=self.settings.address.host,
                reason=outcome.fault.reason,
            )
            warnings.warn(message, stacklevel=2)
        answers = iter(outcome.answers)
        return [[next(answers) for _ in types] for _, types in questions]

    def _connect(self) -> Client:
        """The client, made on first use in this process."""
        with self._lock:
            if self._client is None or self._client.pid != os.getpid():
                settings = self.settings
                self._client = Client(
                    settings.address,
                    read_key(settings.key_env),
                    concurrency=settings.concurrency,
                    timeout=settings.deadline,
                    retries=settings.retries,
                )
            return self._client

    def _probe(self, client: Client) -> Abilities:
        """What the server can do, found out once."""
        with self._lock:
            if self._abilities is None:
                settings = self.settings
                found = client.run(
                    probe(
                        client,
                        settings.model,
                        template=settings.template,
                        constrained=settings.held_to != "none",
                    )
                )
                logger.info("Documents go to %s", settings.address.host)
                self._judge(found)
                self._abilities = found
            return self._abilities

    def _judge(self, found: Abilities) -> None:
        """Say what will not do, or seems amiss."""
        settings, host = self.settings, self.settings.address.host
        passage, answer = settings.max_passage_tokens, settings.max_new_tokens
        if 0 < found.context < passage + answer + PROMPT_TOKENS:
            message = Errors.U100.format(
                passage=passage,
                answer=answer,
                prompt=PROMPT_TOKENS,
                context=found.context,
                host=host,
            )
            raise ValueError(message)
        if settings.model not in found.models and found.writes in found.models:
            message = Warnings.U108.format(
                host=host, model=settings.model, found=found.writes
            )
            warnings.warn(message, stacklevel=4)
        problem = ""
        if settings.held_to == "copy" and not found.constraint:
            problem = NO_GRAMMARS
        if not found.sample.strip().startswith("["):
            problem = NO_LIST.format(answer=found.sample[:60])
        if problem:
            message = Warnings.U109.format(host=host, problem=problem)
            warnings.warn(message, stacklevel=4)

    def _error(self, fault: Fault) -> RuntimeError:
        """A fault in the user's words."""
        host, reason = self.settings.address.host, fault.reason
        if fault.is_too_long:
            return RuntimeError(Errors.U099.format(host=host, reason=reason))
        if fault.stops:
            cure = fault.stops
            if cure == "model":
                cure = f"Asked for was {self.settings.model!r}; correct `model`, or start the server with it."
            return RuntimeError(Errors.U097.format(host=host, reason=reason, cure=cure))
        return RuntimeError(Errors.U098.format(host=host, reason=reason))

    def __getstate__(self) -> Dict[str, Any]:
        return {"settings": self.settings}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.settings = state["settings"]
        self._forget()
