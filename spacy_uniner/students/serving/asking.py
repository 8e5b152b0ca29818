"""Put many questions to a server at once, in order, and tell what became of each.

Knows what a server can do and how to ask it; what a completion says is read in `scores`.
"""

import asyncio
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence

from ...prompt import get_template
from ...types import Answer, Question
from .client import Client
from .grammars import copy_grammar, list_grammar
from .probing import Abilities, constrain
from .prompts import Copy, make_copy, render
from .replies import Fault, read_completion
from .scores import make_answer
from .settings import Settings


class Outcome(NamedTuple):
    """What became of some questions.

    answers (List[Answer]): One for each, in order.
    n_failed (int): How many got none.
    fault (Optional[Fault]): Why the last of those did not.
    """

    answers: List[Answer]
    n_failed: int = 0
    fault: Optional[Fault] = None


def mark(fault: Fault) -> Answer:
    """RETURNS (Answer): What stands for an answer that was never given."""
    if fault.is_too_long:
        return Answer(truncated=1, text="")
    return Answer(unreadable=1, text="")


class Asking:
    """Some passages, and the questions about them."""

    def __init__(
        self,
        client: Client,
        abilities: Abilities,
        settings: Settings,
        questions: Sequence[Question],
    ) -> None:
        """Prepare what the questions about a passage share.

        client (Client): How to ask the server.
        abilities (Abilities): What it can do.
        settings (Settings): How to ask.
        questions (Sequence[Question]): Passages, each with its types.
        """
        self.client, self.abilities, self.settings = client, abilities, settings
        self.copies = [
            make_copy(passage, template=settings.template) for passage, _ in questions
        ]
        # the types of a passage go together, so that its beginning is read once
        self.asked = [
            (number, entity_type)
            for number, (_, types) in enumerate(questions)
            for entity_type in types
        ]

    async def run(self) -> Outcome:
        """Ask.

        RETURNS (Outcome): What became of the questions. Once the server stops
            answering for good, the rest is not asked.
        RAISES (Fault): At the first question without an answer, if faults raise.
        """
        answers: List[Optional[Answer]] = [None] * len(self.asked)
        faults: List[Fault] = []
        waiting = iter(enumerate(self.asked))

        async def work() -> None:
            for place, (number, entity_type) in waiting:
                try:
                    answers[place] = await self._ask(self.copies[number], entity_type)
                except Fault as fault:
                    if self.settings.on_error == "raise":
                        raise
                    answers[place] = mark(fault)
                    faults.append(fault)
                    if fault.stops:
                        break

        await _together(
            work() for _ in range(min(self.client.concurrency, len(answers)))
        )
        fault = faults[-1] if faults else None
        unasked = sum(answer is None for answer in answers)
        given = [mark(faults[-1]) if a is None else a for a in answers]
        return Outcome(given, len(faults) + unasked, fault)

    async def _ask(self, passage: Copy, entity_type: str) -> Answer:
        settings = self.settings
        end = get_template(settings.template).end
        prompt = render(
            passage,
            entity_type,
            template=settings.template,
            dataset=settings.dataset,
            with_first=self.abilities.with_first,
        )
        body = {
            "model": settings.model,
            "prompt": prompt,
            "temperature": 0.0,
            "max_tokens": settings.max_new_tokens,
            "stop": [end],
            "stream": False,
            **self.abilities.settings,
        }
        url = f"{self.client.address.url}/completions"
        held = self._constraint(passage)
        try:
            written = await self.client.ask(
                url, {**body, **held}, check=read_completion
            )
        except Fault as fault:
            if not held or fault.is_passing or fault.stops or fault.is_too_long:
                raise
            # perhaps it was the grammar of this very passage that it did not like
            held = {}
            written = await self.client.ask(url, body, check=read_completion)
        return make_answer(written, passage, end=end, is_free=not held)

    def _constraint(self, passage: Copy) -> Dict[str, Any]:
        held_to, taker = self.settings.held_to, self.abilities.constraint
        if not taker or held_to == "none":
            return {}
        is_copy = held_to == "copy"
        return constrain(
            taker, copy_grammar(passage.text) if is_copy else list_grammar()
        )


async def _together(work: Iterable[Any]) -> None:
    """Run coroutines at the same time; when one fails, the others end."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
