"""What asking a teacher costs: the price table, estimates, and a budget that holds.

Prices are the user's: dollars per million tokens, by model, with the date on which
they were read. Knows nothing of servers.
"""

import asyncio
import json
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import AsyncIterator, Dict, Optional

from ..files import InputError
from .prompts import Body, longest_answer

SHIPPED = Path(__file__).with_name("prices.json")
CHARS_PER_TOKEN = 4  # bytes of UTF-8, which are characters of English
OVERHEAD = 64  # tokens that a chat template adds, at most


class OutOfBudget(Exception):
    """A call could cross the budget at its worst price."""


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens, as of a date."""

    input: float
    output: float
    date: str

    def of(self, n_input: int, n_output: int) -> float:
        """RETURNS (float): Dollars for so many tokens."""
        return (n_input * self.input + n_output * self.output) / 1e6


def read_prices(path: Optional[Path] = None) -> Dict[str, Price]:
    """Read the price table: {model: {"input": 0.5, "output": 1.5, "date": "2026-01-31"}}.

    path (Optional[Path]): The user's own, on top of what ships.
    RETURNS (Dict[str, Price]): Price by model.
    RAISES (InputError): If the table is none.
    """
    prices: Dict[str, Price] = {}
    for file in filter(None, (SHIPPED, path)):
        try:
            table = json.loads(file.read_text(encoding="utf8"))
            prices.update({model: Price(**price) for model, price in table.items()})
        except FileNotFoundError:
            raise InputError(f"There is no price table {file}.") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{file} is no price table: {error}.") from None
    for model, price in prices.items():
        for dollars in (price.input, price.output):
            if not (isinstance(dollars, (int, float)) and 0 <= dollars < math.inf):
                raise InputError(f"The price of {model!r} is {dollars!r}: no dollars.")
    return prices


def find_price(model: str, prices: Dict[str, Price]) -> Price:
    """Look a price up.

    model (str): The teacher.
    prices (Dict[str, Price]): The table.
    RETURNS (Price): Its price.
    RAISES (InputError): If it is not in the table.
    """
    if model not in prices:
        entry = {model: {"input": 0.0, "output": 0.0, "date": "2026-01-31"}}
        raise InputError(
            f"There is no price for {model!r}; known: {', '.join(prices)}. Give a file "
            f"with --prices, in dollars per million tokens: {json.dumps(entry)}"
        )
    return prices[model]


def estimate_tokens(body: Body) -> int:
    """RETURNS (int): About how many tokens a request has, at 4 bytes each."""
    return math.ceil(count_bytes(body) / CHARS_PER_TOKEN)


def bound_tokens(body: Body) -> int:
    """RETURNS (int): How many tokens a request has at most: one a byte."""
    return count_bytes(body) + OVERHEAD


def count_bytes(body: Body) -> int:
    """RETURNS (int): Bytes of text in a request."""
    return sum(len(m["content"].encode("utf8")) for m in body["messages"])


class Budget:
    """Dollars that are spent, and dollars that calls on their way could cost.

    Without a limit it only counts; without a price everything is free.
    """

    def __init__(
        self, price: Optional[Price] = None, *, limit: Optional[float] = None
    ) -> None:
        """Open a budget; what was spent before is added to `spent`.

        price (Optional[Price]): The teacher's.
        limit (Optional[float]): Dollars that will not be crossed.
        RAISES (InputError): If the limit is no number of dollars.
        """
        if limit is not None and not limit >= 0:
            raise InputError(f"--budget must be at least 0 dollars, got {limit}.")
        self.price = price or Price(0.0, 0.0, "")
        self.limit = math.inf if limit is None else limit
        self.spent = 0.0
        self.held = 0.0
        self._settled = asyncio.Event()

    def worst(self, body: Body) -> float:
        """RETURNS (float): Dollars that a request can cost at most."""
        return self.price.of(bound_tokens(body), longest_answer(body))

    def hold(self, dollars: float) -> None:
        """Put dollars aside.

        RAISES (OutOfBudget): If they are not there.
        """
        if self.spent + self.held + dollars > self.limit:
            raise OutOfBudget
        self.held += dollars

    @asynccontextmanager
    async def bill(self, body: Body) -> AsyncIterator["Bill"]:
        """Put the worst price of a call aside, and settle when it is over.

        body (Body): The request.
        YIELDS (Bill): What its attempts cost.
        RAISES (OutOfBudget): If it does not fit, even when no other is on its way.
        """
        bill = Bill(self, self.worst(body))
        while True:
            try:
                bill.cover()
                break
            except OutOfBudget:
                if not self.held:
                    raise
                await self._settled.wait()
        try:
            yield bill
        finally:
            self.held = max(0.0, self.held - bill.held)
            if self.held < 1e-12:  # dollars: what is left is rounding
                self.held = 0.0
            self.spent += bill.cost
            self._settled.set()
            self._settled.clear()


@dataclass
class Bill:
    """One call's: an attempt costs its worst price until the server says otherwise."""

    budget: Budget
    worst: float  # dollars, per attempt
    held: float = 0.0  # dollars put aside
    cost: float = 0.0  # dollars

    def cover(self) -> None:
        """Put aside what the next attempt can cost.

        RAISES (OutOfBudget): If it is not there.
        """
        missing = self.cost + self.worst - self.held
        if missing > 0:
            self.budget.hold(missing)
            self.held += missing

    def begin(self) -> None:
        """Before an attempt is sent.

        RAISES (OutOfBudget): If another one could cross the budget.
        """
        self.cover()
        self.cost += self.worst

    def end(self, n_input: Optional[int], n_output: Optional[int]) -> None:
        """After an attempt whose tokens are known; None if they are not."""
        if n_input is not None and n_output is not None:
            self.cost += self.budget.price.of(n_input, n_output) - self.worst
