"""Find out what a server can do: a few small requests, before the first question.

What it lacks is done without; what it refuses outright is a fault.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from ...answers import read_answer
from ...prompt import get_template
from .client import Client
from .grammars import FORCED, forced_grammar, list_grammar
from .prompts import make_copy, render
from .replies import Completion, Fault, read_completion

PASSAGE, TYPE = "Ada Lovelace was born in London.", "person"
N_TOKENS = 32  # of a probe's answer
N_TOPS = 5  # tokens whose probabilities are told; the most that OpenAI allows
# markers are part of some students' lists; vLLM leaves them out unless told
SHOWING = {"skip_special_tokens": False, "spaces_between_special_tokens": False}
# what constrains an answer: vLLM, vLLM before 0.12, llama.cpp
CONSTRAINTS = ("structured_outputs", "guided_grammar", "grammar")


@dataclass(frozen=True)
class Abilities:
    """What a server can do.

    models (List[str]): The models that it lists.
    context (int): The longest prompt with its answer, in tokens; 0 if unknown.
    with_first (bool): Whether the prompt's first marker must be sent.
    settings (Dict[str, Any]): What is added to every request.
    constraint (str): What takes a grammar; empty if nothing does.
    sample (str): What it answered to the probe.
    writes (str): The model that answered, as far as is known.
    """

    models: List[str] = field(default_factory=list)
    context: int = 0
    with_first: bool = False
    settings: Dict[str, Any] = field(default_factory=dict)
    constraint: str = ""
    sample: str = "[]"
    writes: str = ""

    @property
    def has_logprobs(self) -> bool:
        """RETURNS (bool): Whether probabilities are told."""
        return "logprobs" in self.settings


def constrain(constraint: str, grammar: str) -> Dict[str, Any]:
    """RETURNS (Dict[str, Any]): What to add to a request."""
    is_nested = constraint == "structured_outputs"
    return {constraint: {"grammar": grammar} if is_nested else grammar}


async def probe(
    client: Client, model: str, *, template: str, constrained: bool
) -> Abilities:
    """Find out what a server can do.

    client (Client): How to ask it.
    model (str): Name of the model there.
    template (str): Name of the prompt template.
    constrained (bool): Whether grammars are of interest.
    RETURNS (Abilities): What it can do.
    RAISES (Fault): If it does not complete prompts with this model.
    """
    return await _Probe(client, model, template).run(constrained)


class _Probe:
    """One server, one model, one template."""

    def __init__(self, client: Client, model: str, template: str) -> None:
        self.client, self.model, self.template = client, model, template

    async def run(self, constrained: bool) -> Abilities:
        first = get_template(self.template).markers[0]
        try:
            short = await self._complete(first, max_tokens=1)
        except Fault as fault:
            if fault.stops == "model":
                known = ", ".join((await self._list_models())[0][:10])
                fault.reason += f"; it has {known}" if known else ""
            raise
        # a tokenizer that adds the first marker by itself makes two of it
        with_first = short.n_prompt == 1 if short.n_prompt else self.template == "mini"
        prompt = render(
            make_copy(PASSAGE, template=self.template),
            TYPE,
            template=self.template,
            dataset=None,
            with_first=with_first,
        )
        models, context = await self._list_models()
        settings, free = await self._find_settings(prompt)
        constraint = await self._find_constraint(prompt, free) if constrained else ""
        return Abilities(
            models, context, with_first, settings, constraint, free.text, free.model
        )

    async def _list_models(self) -> Tuple[List[str], int]:
        """Names of models, and what ours can read. vLLM tells that, and llama.cpp;
        `transformers serve` fails where no model was ever downloaded."""
        url = f"{self.client.address.url}/models"
        try:
            listed = await self.client.ask(url, check=dict, retries=0)
        except Fault:
            return [], 0
        data = listed.get("data")
        rows = (
            [r for r in data if isinstance(r, dict)] if isinstance(data, list) else []
        )
        names = [row["id"] for row in rows if isinstance(row.get("id"), str)]
        mine = next((row for row in rows if row.get("id") == self.model), {})
        meta = mine.get("meta")
        told = [mine.get("max_model_len")]
        if isinstance(meta, dict):
            told.append(meta.get("n_ctx"))
        return names, next((n for n in told if isinstance(n, int) and n > 0), 0)

    async def _complete(
        self, prompt: str, *, retries: Optional[int] = None, **settings: Any
    ) -> Completion:
        body = {"model": self.model, "prompt": prompt, "temperature": 0.0, **settings}
        url = f"{self.client.address.url}/completions"
        return await self.client.ask(url, body, check=read_completion, retries=retries)

    async def _find_settings(self, prompt: str) -> Tuple[Dict[str, Any], Completion]:
        """The first set of settings that the server takes."""
        usual: Dict[str, Any] = {
            "max_tokens": N_TOKENS,
            "stop": [get_template(self.template).end],
        }
        refused: Optional[Fault] = None
        for settings in ({"logprobs": N_TOPS, **SHOWING}, {"logprobs": N_TOPS}, {}):
            try:
                free = await self._complete(prompt, **usual, **settings)
            except Fault as fault:
                # it may be a setting that it does not know
                if fault.stops or fault.is_passing:
                    raise
                refused = fault
                continue
            if not free.tokens:
                settings = {k: v for k, v in settings.items() if k != "logprobs"}
            return settings, free
        raise refused or Fault("no settings to try")

    async def _find_constraint(self, prompt: str, free: Completion) -> str:
        """What the server heeds, and does not take for something else."""
        usual: Dict[str, Any] = {
            "max_tokens": N_TOKENS,
            "stop": [get_template(self.template).end],
            "retries": 0,
        }
        for name in CONSTRAINTS:
            forced = constrain(name, forced_grammar())
            lists = constrain(name, list_grammar())
            try:
                heeded = await self._complete(prompt, **usual, **forced)
                if heeded.text.strip() != FORCED:
                    continue
                found = await self._complete(prompt, **usual, **lists)
            except Fault:
                continue
            # what is a list without a grammar must be the same with it, or the server
            # can't spell this model's lists under it
            if read_answer(free.text).unreadable or found.text == free.text:
                return name
        return ""
