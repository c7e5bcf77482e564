"""Whatever the order in which chunks came, and however often the sweep was killed: one result, byte for byte."""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))
from sweep_rows import chunk, faithful, order, row, unreadable

from fidelity.comparison.policy import load_policy
from fidelity.sweeping.chunk_store import ChunkStore
from fidelity.sweeping.items import Item, stamp_of
from fidelity.sweeping.merge import merged, summaries
from fidelity.sweeping.plan import write_plan
from fidelity.sweeping.quantiles import Quantiles
from fidelity.sweeping.rows import ChunkResult, ImageRow

POLICY = load_policy()


def _row(number: int, kind: int, error: float) -> ImageRow:
    if kind == 0:
        return unreadable(number)
    content = "content 0" if kind == 1 else f"content {number}"
    return row(number, faithful(relative_l2=error, correlation=1 - error**2 / 2), content, f"output {error}")


rows = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=9).map(
    lambda drawn: [row(0), *(_row(number, *each) for number, each in enumerate(drawn, 1))]
)


def _merge(folder: Path, results: list[ChunkResult], arrival: list[int], size: int) -> dict[str, bytes]:
    """Store the chunks as they arrive, some of them twice, and merge."""
    found = [each for result in results for each in result.rows]
    items = []
    for each in found:
        path = folder / each.name
        path.write_text("content 0" if each.sha256 == row(0).sha256 else f"content {each.number}")
        stamp = stamp_of(path)
        items.append(Item(number=each.number, name=path.name, file=path.name, offset=0, size=stamp.size, stamp=stamp))
    plan, store = write_plan(items, size, folder / "plan.jsonl"), ChunkStore(folder / "swept")
    asked = order(root=str(folder))
    with store.held():
        for number in arrival:
            store.store(results[number].model_dump_json())
        stored = (store.load(each, "key") for each, _ in plan.read())
        counted = merged(asked, plan, (each for each in stored if each is not None), store, POLICY, 3)
        told = "".join(run.to_json() for run in summaries(asked, plan, counted, store, POLICY))
    files = (path for path in (folder / "swept").rglob("*") if path.is_file())
    return {"told": told.encode()} | {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@given(rows, st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_show(found: list[ImageRow], size: int, random) -> None:  # type: ignore[no-untyped-def]
    results = [chunk(at // size, found[at : at + size]) for at in range(0, len(found), size)]
    straight = list(range(len(results)))
    arrival = straight + random.choices(straight, k=3)
    random.shuffle(arrival)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        assert _merge(Path(one), results, straight, size) == _merge(Path(two), results, arrival, size)


distances = st.lists(st.floats(0, allow_nan=False, allow_infinity=True), min_size=1, max_size=60)


@given(distances, st.sampled_from((0.01, 0.5, 0.9, 0.999, 1.0)), st.randoms(use_true_random=False))
def test_a_quantile_is_an_upper_bound_that_is_close(values: list[float], share: float, random) -> None:  # type: ignore[no-untyped-def]
    exact = sorted(values)[math.ceil(share * len(values)) - 1]
    found = []
    for _ in range(2):
        sketch = Quantiles()
        for value in values:
            sketch.add(value)
        found.append(sketch.quantile(share))
        random.shuffle(values)
    assert found[0] == found[1] >= exact
    # a bin is 2^-8 of its number wide; below the normal numbers, 2^44 steps of the smallest
    assert found[0] <= exact * (1 + 2.0**-8) + 2.0**44 * np.finfo(np.float64).smallest_subnormal or exact == math.inf


def test_nan_is_worst_and_nothing_has_no_quantile() -> None:
    sketch = Quantiles()
    assert math.isnan(sketch.quantile(0.5))
    for value in (math.nan, 0.0, -0.0):
        sketch.add(value)
    assert (sketch.quantile(0.5), sketch.quantile(0.9)) == (0.0, math.inf)
