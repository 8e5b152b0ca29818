"""Annotate shards over Ray: one actor per worker, one shard in each actor's hands.

Plain actors, not Ray Data: what a kill may cost is then ours to say. Ray Data merges
and splits blocks as it likes, and its checkpoints are made per write task, so that a
kill can cost everything that no such task has ended. Here the driver cuts the shards,
hands out the next one only when the last is on disk, and an actor gives the bytes of
its file back. So a kill of the driver costs the shards in work, a kill of a worker
that worker's shard; workers need no common disk, and none that outlives its driver
can write into a folder that another run has taken.
"""

import logging
import socket
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterator, Optional, Tuple

from ..errors import Errors
from .annotating import Runner, Tick
from .recipe import Recipe
from .shards import Shard
from .working import Result, Worker

KNOCK = 10.0  # seconds for a cluster to answer at all
MAX_DEATHS = 3  # of workers over one shard, before it is to blame


def run_on_ray(
    recipe: Recipe,
    format: str,
    *,
    address: Optional[str] = None,
    workers: Optional[int] = None,
    gpus: Optional[float] = None,
) -> Runner:
    """Annotate with workers over Ray.

    recipe (Recipe): How to make the pipeline. Its files must lie at the same place
        on every machine.
    format (str): Of shard files.
    address (Optional[str]): Of a cluster, such as "auto"; None to start Ray here.
    workers (Optional[int]): How many; None for one per GPU, or per CPU without any.
    gpus (Optional[float]): GPUs per worker; None for 1 where the cluster has any,
        unless the recipe asks for the CPU.
    RETURNS (Runner): Who annotates.
    RAISES (ImportError): U038, if Ray is not installed. (ValueError): U039, if
        `workers` or `gpus` is too small; any of the recipe's. When it runs, also
        U116, U118, if the cluster is too small or there is none; (RuntimeError): U114,
        U115, U119, if workers fail.
    """
    try:
        import ray  # noqa: F401
    except ImportError as e:
        message = Errors.U038.format(
            package="ray", purpose="workers", install="spacy-uniner[ray]"
        )
        raise ImportError(message) from e
    for setting, found, least in (("workers", workers, 1), ("gpus", gpus, 0)):
        if found is not None and found < least:
            message = Errors.U039.format(
                setting=setting, unit=setting, least=least, found=found
            )
            raise ValueError(message)

    recipe = recipe.absolute()
    recipe.build()  # what is wrong with it is told here, before a folder is written

    def run(shards: Iterator[Shard], tick: Tick) -> Iterator[Result]:
        with ExitStack() as stack:
            stack.enter_context(_connected(address, workers))
            n_workers, n_gpus = plan_workers(
                ray.cluster_resources(), workers, gpus, recipe.device
            )
            pool = _Pool(recipe, format, n_workers, n_gpus)
            stack.callback(pool.stop)
            yield from pool.run(shards, tick)

    return run


def plan_workers(
    found: Dict[str, float], workers: Optional[int], gpus: Optional[float], device: str
) -> Tuple[int, float]:
    """Choose how many workers, and how many GPUs each.

    found (Dict[str, float]): What the cluster has: "CPU", "GPU".
    workers (Optional[int]): What was asked for.
    gpus (Optional[float]): GPUs per worker that were asked for.
    device (str): The device of the recipe.
    RETURNS (Tuple[int, float]): Workers, and GPUs of each.
    RAISES (ValueError): U116, if they do not fit: they would wait for ever.
    """
    n_cpus, n_gpus = found.get("CPU", 0.0), found.get("GPU", 0.0)
    if gpus is None:
        gpus = 1.0 if n_gpus >= 1 and device != "cpu" else 0.0
    room = int(min(n_cpus, n_gpus / gpus)) if gpus else int(n_cpus)
    if room < max(workers or 1, 1):
        told = f"{n_cpus:g} CPU(s) and {n_gpus:g} GPU(s)"
        message = Errors.U116.format(
            workers=workers or 1, cpus=1, gpus=f"{gpus:g}", found=told
        )
        raise ValueError(message)
    return workers or room, gpus


@contextmanager
def _connected(address: Optional[str], workers: Optional[int]) -> Iterator[None]:
    """Connect to a cluster, or start one here, unless the caller has done so."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if address:
            _knock(address)
        ray.init(
            # without an address Ray would join any cluster that it finds on this machine
            address=address or "local",
            num_cpus=None if address else workers,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, ValueError) as e:
        problem = f"{address!r} has no cluster of Ray that answers: {e}"
        raise ValueError(Errors.U118.format(setting="address", problem=problem)) from e
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself tries for minutes, and then ends the process.

    RAISES (OSError): If nobody answers at an address that is one of host and port.
    """
    host, _, port = address.split("://")[-1].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()


class _Pool:
    """Actors, and the shards in their hands."""

    def __init__(self, recipe: Recipe, format: str, workers: int, gpus: float) -> None:
        import ray

        actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(Worker)
        self._start = lambda: actor.remote(recipe, format)
        self._idle = [self._start() for _ in range(workers)]
        self._busy: Dict[Any, Tuple[Any, Shard]] = {}  # what is awaited -> who, what
        self._deaths: Counter = Counter()  # shard -> workers that it ended

    def run(self, shards: Iterator[Shard], tick: Tick) -> Iterator[Result]:
        """Annotate shards, each worker one at a time.

        shards (Iterator[Shard]): The shards.
        tick (Tick): Called with each result.
        YIELDS (Result): One shard, in the order in which they are done.
        """
        import ray

        while True:
            while self._idle and (shard := next(shards, None)):
                self._hand_out(self._idle.pop(), shard)
            if not self._busy:
                return
            (ready, *_), _ = ray.wait(list(self._busy), num_returns=1)
            worker, shard = self._busy.pop(ready)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayTaskError as e:
                # what the worker said, without the trace of another machine
                raise RuntimeError(str(e.cause)) from None
            except ray.exceptions.RayError as e:
                ray.kill(worker)  # lost from sight, it may still hold its processor
                self._again(shard, e)
                continue
            tick(len(shard.records), shard.records[-1])
            yield result  # on disk when this goes on
            self._idle.append(worker)

    def _hand_out(self, worker: Any, shard: Shard) -> None:
        self._busy[worker.annotate.remote(shard)] = (worker, shard)

    def _again(self, shard: Shard, error: Exception) -> None:
        """Give a shard whose worker died to a new one, unless the shard is to blame.

        RAISES (RuntimeError): U115, if it has ended too many.
        """
        self._deaths[shard.number] += 1
        if self._deaths[shard.number] == MAX_DEATHS:
            message = Errors.U115.format(
                shard=shard.number,
                first=shard.records[0].number,
                last=shard.records[-1].number,
                times=MAX_DEATHS,
                reason=str(error).strip().splitlines()[-1],
            )
            raise RuntimeError(message) from error
        self._hand_out(self._start(), shard)

    def stop(self) -> None:
        """End the workers, whatever they are at."""
        import ray

        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            ray.kill(worker)
        self._idle, self._busy = [], {}
