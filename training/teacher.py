"""Ask a large model which entities stand in passages, and of what types.

Writes one row per answer, on disk before it counts; a run that was stopped, by
whatever, goes on where it was. What the answers are worth is decided in `cleaning`.

    python -m training.teacher --passages passages.jsonl --out answers.jsonl \\
        --endpoint http://127.0.0.1:8000/v1 --model NAME
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Callable, Dict, List, Optional

from .files import InputError, Journal, alone, read_rows, run_script, write_json
from .teaching.batch_files import check_none_is_pending
from .teaching.batches import Batches
from .teaching.endpoint import Endpoint
from .teaching.ledger import Ledger, read_questions
from .teaching.pricing import Budget, Price, estimate_tokens, find_price, read_prices
from .teaching.prompts import TEMPLATES, Asking, Body, Prompt, Question, read_types
from .teaching.run import Run, until_signal
from .teaching.service import Service, read_key

GUESS = 100  # tokens of an answer, where none was measured


class Job:
    """A file of passages, a teacher, and the answers that stand there already."""

    def __init__(self, args: argparse.Namespace, journal: Optional[Journal]) -> None:
        """Read passages and answers.

        args (argparse.Namespace): Arguments of the script.
        journal (Optional[Journal]): The answers file, to write in; None to look only.
        """
        self.out: Path = args.out
        self.asking = Asking(
            read_prompt(args), args.model, args.max_tokens, args.reasoning
        )
        self.price = read_price(args)
        self.questions, self.left_out = read_questions(
            args.passages, self.asking, limit=args.limit
        )
        rows = read_rows(self.out, faults=Counter()) if self.out.is_file() else iter(())
        rows = journal.rows() if journal else rows
        self.ledger = Ledger(rows, self.asking, journal=journal)
        self.open: List[Question] = list(self.ledger.open(self.questions))
        self.n_before = len(self.ledger.keys)
        if args.context is not None:
            count = make_counter(args)
            self.open = self.ledger.set_long_aside(self.open, args.context, count)
        self.limit: Optional[float] = args.budget
        self.budget = Budget(self.price, limit=args.budget)
        self.spent = self.budget.spent = self.ledger.tally.worst(self.budget.price)
        self.begin = time.monotonic()

    def report(self, faults: Counter) -> None:
        """Write the report, and say what came of the run.

        faults (Counter): What went wrong, with how many passages.
        """
        n_rows = len(self.ledger.keys) - self.n_before
        n_open = sum(1 for _ in self.ledger.open(self.questions))
        run = {
            "rows": n_rows,
            "there_already": len(self.questions) - n_open - n_rows,
            "twice": self.left_out["twice"],
            "unusable": self.left_out["unusable"],
            "failed": faults.total(),
            "not_asked": max(0, n_open - faults.total()),
        }
        file = self.ledger.tally.told(self.price)
        counts = ", ".join(f"{n} {k}" for k, n in sorted(file["statuses"].items()))
        dollars = file["dollars"]
        cost = "no price known" if dollars is None else f"${dollars:.4f}"
        print(", ".join(f"{n} {name.replace('_', ' ')}" for name, n in run.items()))
        print(
            f"{file['rows']} rows in {self.out}: {counts or 'none'}; "
            f"{file['input_tokens']} + {file['output_tokens']} tokens, {cost}"
        )
        run["faults"] = dict(faults)
        run["dollars"] = self.price and round(self.budget.spent - self.spent, 6)
        run["seconds"] = round(time.monotonic() - self.begin, 1)
        teacher = {"model": self.asking.model, "prompt": self.asking.prompt.name}
        path = self.out.with_suffix(".report.json")
        write_json(path, {"teacher": teacher, "run": run, "file": file})


def ask(job: Job, service: Service) -> int:
    """Ask what has no answer yet.

    job (Job): What to ask.
    service (Service): Whom.
    RETURNS (int): The signal that ended it, or 0.
    RAISES (InputError): If passages are without an answer.
    """
    check_none_is_pending(job.out)
    run = Run(job.ledger, job.budget)

    async def work() -> None:
        async with Endpoint(service) as endpoint:
            await run.ask_all(job.open, endpoint)

    try:
        number = asyncio.run(until_signal(work()))
    finally:
        job.report(run.faults)
    if number:
        return number
    complain(run.faults)
    if run.is_out_of_budget:
        raise InputError(
            f"The next call could cross the budget of ${job.limit:g}; "
            f"${job.budget.spent:.4f} are spent. Raise --budget and run again."
        )
    return 0


def complain(faults: Counter) -> None:
    """RAISES (InputError): If passages are without an answer."""
    if faults:
        kind, n = faults.most_common(1)[0]
        raise InputError(
            f"{faults.total()} passages have no answer, {n} of them because of: {kind}. "
            "Run again to ask them again."
        )


def ask_in_batches(job: Job, step: str, service: Service) -> int:
    """Take a step of the Batch API.

    job (Job): What to ask.
    step (str): "submit", "poll" or "collect".
    service (Service): Whom.
    RETURNS (int): The signal that ended it, or 0.
    RAISES (InputError): If collected requests are without an answer.
    """
    faults: Counter = Counter()

    async def work() -> None:
        async with Batches(service, job.out) as batches:
            if step == "submit":
                n = await batches.submit(job.open, job.asking)
                print(f"{n} requests submitted, {len(batches.batches)} batches in all")
            elif step == "poll":
                lines = await batches.poll()
                print("\n".join(lines) or "all batches are collected")
            else:
                faults.update(await batches.collect(job.questions, job.ledger))
                job.report(faults)

    if step == "submit":
        worst = sum(job.budget.worst(job.asking.body(q.text)) for q in job.open)
        if job.spent + worst > job.budget.limit:
            raise InputError(
                f"A batch of {len(job.open)} passages can cost ${worst:.4f}, over the "
                f"budget of ${job.limit:g}. Raise --budget, or lower --limit."
            )
    number = asyncio.run(until_signal(work()))
    complain(faults)
    return number


def plan(job: Job) -> None:
    """Say what a run would ask and cost; nothing is sent, nothing is written."""
    bodies = [job.asking.body(q.text) for q in job.open]
    guess = min(GUESS, job.asking.max_tokens)
    pairs = [job.ledger.expect(body, guess) for body in bodies]
    n_input, n_output = (round(sum(pair[i] for pair in pairs)) for i in (0, 1))
    n_measured = job.ledger.tally.n_measured
    how = f"measured on {n_measured} answers" if n_measured else "a guess"
    price = job.price or Price(0.0, 0.0, "")
    print(f"{len(bodies)} passages to ask, {len(job.questions) - len(bodies)} answered")
    print(f"{n_input} tokens in, {n_output} tokens out ({how})")
    print(
        f"${price.of(n_input, n_output):.4f} at prices of {price.date}, "
        f"${sum(map(job.budget.worst, bodies)):.4f} at most"
    )


def read_prompt(args: argparse.Namespace) -> Prompt:
    """RETURNS (Prompt): What --prompt and --types say."""
    given = args.types or ""
    if not given.startswith("@"):
        return Prompt(args.prompt, read_types(given))
    path = Path(given[1:])
    if not path.is_file():
        raise InputError(f"There is no file {path} of types, one a line.")
    lines = path.read_text(encoding="utf8").splitlines()
    return Prompt(args.prompt, read_types("", lines))


def read_price(args: argparse.Namespace) -> Optional[Price]:
    """RETURNS (Optional[Price]): The teacher's price; None if it is not needed."""
    prices: Dict[str, Price] = read_prices(args.prices)
    if args.dry_run or args.budget is not None:
        return find_price(args.model, prices)
    return prices.get(args.model)


def make_counter(args: argparse.Namespace) -> Callable[[Body], int]:
    """RETURNS (Callable[[Body], int]): Counts the tokens of a request."""
    if args.tokenizer is None:
        return estimate_tokens
    if not args.tokenizer.is_file():
        raise InputError(f"There is no tokenizer {args.tokenizer}: a tokenizer.json.")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    return lambda body: sum(
        len(tokenizer.encode(m["content"])) for m in body["messages"]
    )


def parse() -> argparse.Namespace:
    """RETURNS (argparse.Namespace): Arguments of the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--passages", type=Path, required=True, help="rows of id and text")
    add("--out", type=Path, required=True, help="answers, JSON lines; resumed")
    add("--endpoint", required=True, help="address, often ending in /v1")
    add("--model", required=True, help="as the server calls it")
    add("--prompt", choices=[*TEMPLATES], default="types")
    add("--types", help="for --prompt closed: a,b,c or @file with one a line")
    add(
        "--key-env",
        help="environment variable with the key; without it, only api.openai.com gets "
        "one, from OPENAI_API_KEY",
    )
    add("--concurrency", type=int, default=8, help="calls at a time")
    add("--requests-per-minute", type=float)
    add("--deadline", type=float, default=60, help="seconds, a call with its retries")
    add("--retries", type=int, default=4, help="attempts after the first")
    add("--max-tokens", type=int, default=1024, help="of an answer")
    add("--reasoning", action="store_true", help="the model thinks before it answers")
    add("--context", type=int, help="tokens of a question and its answer; 4 bytes each")
    add("--tokenizer", type=Path, help="tokenizer.json, to count those tokens truly")
    add("--budget", type=float, help="dollars, all runs into the same file together")
    add("--prices", type=Path, help="JSON: dollars per million tokens, by model")
    add("--dry-run", action="store_true", help="say what it would ask and cost")
    add("--limit", type=int, help="read only so many passages")
    add("--batch", choices=["submit", "poll", "collect"], help="use the Batch API")
    return parser.parse_args()


def main() -> None:
    args = parse()
    service = Service(
        args.endpoint,
        key="" if args.dry_run else read_key(args.endpoint, args.key_env),
        concurrency=args.concurrency,
        requests_per_minute=args.requests_per_minute,
        deadline=args.deadline,
        retries=args.retries,
    )
    if args.dry_run:
        return plan(Job(args, None))
    with alone(args.out), closing(Journal(args.out)) as journal:
        job = Job(args, journal)
        if args.batch:
            number = ask_in_batches(job, args.batch, service)
        else:
            number = ask(job, service)
    if number:
        sys.exit(128 + number)


if __name__ == "__main__":
    run_script(main)
