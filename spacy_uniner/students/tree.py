"""The answer tree: all types of a passage in one row, one forward per mention.

A row holds a passage once and a branch per type; a branch sees the passage and
itself. The first forward decides every empty answer, and, by a speculative
opening of the list, the first piece of every other. Each further forward checks
a draft per unfinished answer: the passage's own continuation of what was copied
so far, with the opening of another mention under every piece. Drafts decide
when a choice is computed, never what it is: answers equal those written one
token at a time.

Works on token IDs: what they mean is decided in `coding`, what may follow in
`copying`.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple

import numpy as np

from .copying import CopyGuide, CopyState

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM

DRAFT = 4  # pieces that are guessed beyond the last certain one


@dataclass(frozen=True)
class Row:
    """A passage and the questions about it.

    prefix (Sequence[int]): Token IDs of what the questions share.
    questions (Sequence[Sequence[int]]): Token IDs of each question.
    guide (CopyGuide): What its answers may hold.
    """

    prefix: Sequence[int]
    questions: Sequence[Sequence[int]]
    guide: CopyGuide

    @property
    def width(self) -> int:
        """RETURNS (int): Tokens of the first forward."""
        return len(self.prefix) + sum(len(q) + 1 for q in self.questions)


@dataclass
class Written:
    """An answer in the making.

    ids (List[int]): Token IDs so far.
    probabilities (List[float]): Of each of them, among those that were legal.
    p_empty (float): Probability of the empty list.
    certified (bool): Whether every token was also the best of all tokens.
    finished (bool): Whether it came to its end.
    """

    ids: List[int] = field(default_factory=list)
    probabilities: List[float] = field(default_factory=list)
    p_empty: float = 0.0
    certified: bool = True
    finished: bool = False


@dataclass
class _Branch:
    """An answer and its place in the tree: `path` holds the slots of its own tokens
    in the cache, `position` is that of its next token."""

    row: int
    guide: CopyGuide
    empty_bound: float
    position: int
    path: List[int]
    written: Written = field(default_factory=Written)
    state: CopyState = CopyState()

    def choose(self, logits: np.ndarray, best_of_all: int) -> int:
        """Take the best legal token.

        logits (np.ndarray): Shape: (n_vocab,)
        best_of_all (int): Their greatest, legal or not.
        RETURNS (int): The token ID.
        """
        legal = self.guide.legal(self.state)
        scores = logits[legal]
        exp = np.exp(scores - scores.max())
        p = exp / exp.sum()
        best = int(p.argmax())
        written = self.written
        if not written.ids:
            written.p_empty = float(p[0])
            best = int(len(legal) > 1 and p[0] < self.empty_bound)
        token = legal[best]
        written.ids.append(token)
        written.probabilities.append(float(p[best]))
        written.certified &= token == best_of_all
        self.state = self.guide.advance(self.state, token)
        written.finished = self.state.mode == "closed"
        return token


@dataclass(frozen=True)
class _Node:
    """A token to be read: its position, and the slots it sees beyond the prefix."""

    token: int
    position: int
    sees: List[int]


class _Forest:
    """Rows on a model: nodes in, logits out, with the keys and values of all rows kept."""

    def __init__(
        self, model: "LlamaForCausalLM", prefixes: Sequence[Sequence[int]]
    ) -> None:
        from transformers import DynamicCache

        self.model = model
        self.sizes = [len(prefix) for prefix in prefixes]
        self.cache = DynamicCache(config=model.config)
        self.n_slots = 0

    def read(self, nodes: Sequence[Sequence[_Node]], prefixes: Any = None) -> "Tensor":
        """Read nodes, each row's side by side.

        nodes (Sequence[Sequence[_Node]]): New nodes of each row. The slot of the
            i-th is the number of slots before this call, plus the length of the
            prefix if it is read in this call, plus i.
        prefixes (Optional[Sequence[Sequence[int]]]): The prefixes, in the first call.
        RETURNS (Tensor): Last hidden states. Shape: (n_rows, width, hidden)
        """
        import torch

        lead = [len(prefix) for prefix in prefixes] if prefixes else [0] * len(nodes)
        width = max(n + len(row) for n, row in zip(lead, nodes))
        ids = np.zeros((len(nodes), width), np.int64)
        positions = np.zeros((len(nodes), width), np.int64)
        visible = np.zeros((len(nodes), width, self.n_slots + width), bool)
        visible[:, :, 0] = True  # padding must see something, or it is not a number
        for r, row in enumerate(nodes):
            n = lead[r]
            if n:
                ids[r, :n] = prefixes[r]
                positions[r, :n] = np.arange(n)
                visible[r, :n, :n] = np.tri(n, dtype=bool)
            visible[r, n : n + len(row), : self.sizes[r]] = True
            for i, node in enumerate(row, n):
                ids[r, i] = node.token
                positions[r, i] = node.position
                visible[r, i, node.sees] = True
                visible[r, i, self.n_slots + i] = True
        self.n_slots += width
        device, dtype = self.model.device, self.model.dtype
        mask = torch.zeros(visible.shape, dtype=dtype)
        mask.masked_fill_(torch.from_numpy(~visible), torch.finfo(dtype).min)
        return self.model.model(
            input_ids=torch.from_numpy(ids).to(device),
            position_ids=torch.from_numpy(positions).to(device),
            attention_mask=mask[:, None].to(device),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state

    def logits(
        self, hidden: "Tensor", places: Sequence[Tuple[int, int]]
    ) -> Tuple[np.ndarray, List[int]]:
        """Compute logits where they are needed.

        hidden (Tensor): Shape: (n_rows, width, hidden)
        places (Sequence[Tuple[int, int]]): Row and column of each. Shape: (n_places, 2)
        RETURNS (Tuple[np.ndarray, List[int]]): Logits, shape: (n_places, n_vocab);
            and the greatest of each.
        """
        rows, columns = zip(*places)
        found = self.model.lm_head(hidden[list(rows), list(columns)]).float()
        return found.cpu().numpy(), found.argmax(-1).tolist()


def write_tree(
    model: "LlamaForCausalLM",
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    empty_bound: float = 0.5,
) -> List[List[Written]]:
    """Write the answers to all questions of some passages.

    model (LlamaForCausalLM): The model.
    rows (Sequence[Row]): Passages with their questions.
    max_new_tokens (int): Longest answer, in tokens.
    empty_bound (float): An answer is empty when the probability of that is at least
        this; 0.5 is the greedy choice.
    RETURNS (List[List[Written]]): For each row one answer per question, in order.
    """
    import torch

    with torch.inference_mode():
        forest = _Forest(model, [row.prefix for row in rows])
        branches = _ask(forest, rows, empty_bound)
        live = [b for b in branches if not b.written.finished]
        while live:
            _continue(forest, live, len(rows), max_new_tokens)
            live = [
                b
                for b in live
                if not b.written.finished and len(b.written.ids) < max_new_tokens
            ]
    out: List[List[Written]] = [[] for _ in rows]
    for branch in branches:
        out[branch.row].append(branch.written)
    return out


def _ask(forest: _Forest, rows: Sequence[Row], empty_bound: float) -> List[_Branch]:
    """Read passages and questions, and choose what the first forward can decide."""
    nodes: List[List[_Node]] = []
    branches: List[_Branch] = []
    places: List[Tuple[int, int]] = []
    for r, row in enumerate(rows):
        mine: List[_Node] = []
        n = len(row.prefix)
        for question in row.questions:
            first = n + len(mine)
            tokens = [*question, row.guide.syntax.open]
            for i, token in enumerate(tokens):
                mine.append(_Node(token, n + i, list(range(first, first + i))))
            slots = list(range(first, first + len(tokens)))
            branches.append(_Branch(r, row.guide, empty_bound, n + len(tokens), slots))
            places += [(r, slots[-2]), (r, slots[-1])]
        nodes.append(mine)
    hidden = forest.read(nodes, [row.prefix for row in rows])
    logits, best = forest.logits(hidden, places)
    for i, branch in enumerate(branches):
        branch.choose(logits[2 * i], best[2 * i])
        if not branch.written.finished:
            branch.choose(logits[2 * i + 1], best[2 * i + 1])
    return branches


def _draft(branch: _Branch) -> List[int]:
    """Guess what follows the last token of a branch: the passage, from the first
    place where its mention can stand."""
    pieces, place = branch.guide.pieces, min(branch.state.positions)
    return pieces[place : place + DRAFT]


def _continue(
    forest: _Forest, live: Sequence[_Branch], n_rows: int, max_new_tokens: int
) -> None:
    """Check one draft per unfinished answer, and take what is right of it."""
    nodes: List[List[_Node]] = [[] for _ in range(n_rows)]
    base = forest.n_slots
    starts: List[int] = []
    chains: List[List[int]] = []
    for branch in live:
        mine = nodes[branch.row]
        starts.append(len(mine))
        chain = [branch.written.ids[-1], *_draft(branch)]
        chains.append(chain)
        sees = list(branch.path)
        for i, token in enumerate(chain):
            slot = base + len(mine)
            mine.append(_Node(token, branch.position + i, list(sees)))
            sees.append(slot)
            another = branch.guide.syntax.next
            mine.append(_Node(another, branch.position + i + 1, list(sees)))
    hidden = forest.read(nodes)
    places = [
        (branch.row, start + i)
        for branch, start, chain in zip(live, starts, chains)
        for i in range(2 * len(chain))
    ]
    logits, best = forest.logits(hidden, places)
    at = 0
    for branch, start, chain in zip(live, starts, chains):
        size = 2 * len(chain)
        _walk(
            branch,
            chain,
            base + start,
            logits[at : at + size],
            best[at : at + size],
            max_new_tokens,
        )
        at += size


def _walk(
    branch: _Branch,
    chain: Sequence[int],
    base: int,
    logits: np.ndarray,
    best: Sequence[int],
    max_new_tokens: int,
) -> None:
    """Follow a draft as long as it says what would have been chosen.

    chain (Sequence[int]): Drafted tokens; the first is certain.
    base (int): Slot of the first.
    logits (np.ndarray): After each token of the chain, and after the opening of
        another mention in its place. Shape: (2 * n_chain, n_vocab)
    """
    for i in range(len(chain)):
        branch.path.append(base + 2 * i)
        branch.position += 1
        token = branch.choose(logits[2 * i], best[2 * i])
        if branch.written.finished or len(branch.written.ids) >= max_new_tokens:
            return
        if token == branch.guide.syntax.next:
            branch.path.append(base + 2 * i + 1)
            branch.position += 1
            branch.choose(logits[2 * i + 1], best[2 * i + 1])
            return
        if i + 1 == len(chain) or token != chain[i + 1]:
            return
