"""Cut records into shards: what is annotated, written and repeated as a whole.

The same input and size give the same shards, always: that is what a run goes on by.
"""

from typing import Container, Iterable, Iterator, List, NamedTuple

from .records import Record

MAX_BYTES = 16 << 20  # bytes of records, after which a shard ends early


class Shard(NamedTuple):
    """Records that are annotated together.

    number (int): Its place among the shards, from 0.
    records (List[Record]): Its records.
    """

    number: int
    records: List[Record]


def cut_shards(
    records: Iterable[Record],
    size: int,
    *,
    done: Container[int] = (),
    max_bytes: int = MAX_BYTES,
) -> Iterator[Shard]:
    """Cut records into shards.

    records (Iterable[Record]): All records of the input.
    size (int): Records of a shard, at most.
    done (Container[int]): Numbers of shards that come back without their records.
    max_bytes (int): A shard of long documents ends with the one that reaches this.
    YIELDS (Shard): One shard.
    """
    number = n_records = n_bytes = 0
    kept: List[Record] = []
    for record in records:
        n_records += 1
        n_bytes += len(record.content)
        if number not in done:
            kept.append(record)
        if n_records == size or n_bytes >= max_bytes:
            yield Shard(number, kept)
            number, n_records, n_bytes, kept = number + 1, 0, 0, []
    if n_records:
        yield Shard(number, kept)
