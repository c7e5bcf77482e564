"""Chunks to a result: every image once, in order; what is wrong is counted, named and fails."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sweep_rows import chunk, faithful, order, row, spread, unreadable, vectors

from fidelity.comparison.comparison import Failure
from fidelity.comparison.metrics.common_component import input_dependence
from fidelity.comparison.metrics.frozen_share import frozen_share
from fidelity.comparison.metrics.nearest_neighbour import nearest_neighbour_regret
from fidelity.comparison.metrics.outcome import Measured, Undefined
from fidelity.comparison.policy import load_policy
from fidelity.errors import BadInput
from fidelity.sweeping.agreement import agreement
from fidelity.sweeping.chunk_store import ChunkStore
from fidelity.sweeping.float_arrays import FloatArray
from fidelity.sweeping.gallery import Gallery, StoredGallery
from fidelity.sweeping.items import Item, stamp_of
from fidelity.sweeping.merge import Merged, merged, reasons_of, summaries
from fidelity.sweeping.plan import Plan, write_plan
from fidelity.sweeping.report import RunSummary
from fidelity.sweeping.rows import ChunkResult, ImageRow, ImageRun
from fidelity.sweeping.seen import Seen
from fidelity.sweeping.spread import spread_of


def planned(folder: Path, images: int, size: int = 4) -> Plan:
    """A plan of files whose content is what sweep_rows says that it is."""
    items = []
    for number in range(images):
        path = folder / f"{number:03d}.png"
        path.write_text(f"content {number}")
        stamp = stamp_of(path)
        items.append(Item(number=number, name=path.name, file=path.name, offset=0, size=stamp.size, stamp=stamp))
    return write_plan(items, size, folder / "plan.jsonl")


def merge(folder: Path, chunks: list[ChunkResult], keep: int = 3) -> tuple[Merged, RunSummary]:
    rows = [each for result in chunks for each in result.rows]
    plan, store, policy = planned(folder, len(rows)), ChunkStore(folder), load_policy()
    store.scratch.mkdir(exist_ok=True)
    asked = order(root=str(folder))
    found = merged(asked, plan, iter(chunks), store, policy, keep)
    (run,) = summaries(asked, plan, found, store, policy)
    return found, run


def chunks_of(rows: list[ImageRow], size: int = 4) -> list[ChunkResult]:
    return [chunk(start // size, rows[start : start + size]) for start in range(0, len(rows), size)]


def test_a_faithful_device_passes(tmp_path: Path) -> None:
    found, run = merge(tmp_path, chunks_of([row(number) for number in range(10)]))
    assert reasons_of(found, [run], 0) == ()
    assert run.judgement.passed, run.judgement.findings
    assert (run.passed.count, run.passed.of, run.neighbours.count) == (10, 10, 10)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(10))


def test_one_bad_image_of_many_decides_and_is_kept(tmp_path: Path) -> None:
    rows = [row(number) for number in range(10)]
    rows[7] = row(7, faithful(correlation=0.5, relative_l2=0.9))
    found, run = merge(tmp_path, chunks_of(rows))
    assert not run.judgement.passed
    assert reasons_of(found, [run], 0) == ("cpu: the verdict on its run is FAIL",)
    worst = {check.metric: check for check in run.judgement.checks}["correlation"]
    assert (worst.worst, worst.inputs) == (0.5, ("007.png",))
    assert (run.passed.count, run.passed.of) == (9, 10)
    assert [each.number for each in run.worst] == [7, 0, 1]
    assert (tmp_path / str(run.worst[0].file)).read_text() == "content 7"
    assert run.metrics["correlation"].quantiles["0.5"] == 0


def test_a_missing_output_is_worst_of_all_and_fails(tmp_path: Path) -> None:
    rows = [row(number, faithful(relative_l2=0.1)) for number in range(4)]
    gone = Failure(code="missing_input", message="the device gave nothing", input="002.png")
    rows[2] = rows[2].model_copy(update={"runs": {"cpu": ImageRun(metrics={}, failures=(gone,))}})
    _, run = merge(tmp_path, chunks_of(rows))
    assert run.worst[0].number == 2
    assert run.failures == {"missing_input": 1}
    assert {"missing_input", "not_compared"} <= {finding.code for finding in run.judgement.findings}


@pytest.mark.parametrize("name", ["correlation", "relative_l2", "norm_ratio", "centred_correlation"])
def test_a_figure_that_is_nan_or_missing_fails(tmp_path: Path, name: str) -> None:
    for index, figure in enumerate((math.nan, None)):
        folder = tmp_path / str(index)
        folder.mkdir()
        run = faithful() if figure is None else faithful(**{name: figure})
        if figure is None:
            why = Undefined(cause="constant_actual", why="every element is 0")
            rest = {key: value for key, value in run.metrics.items() if key != name}
            run = run.model_copy(update={"metrics": rest, "undefined": {name: why}})
        rows = [row(number) for number in range(4)]
        rows[1] = row(1, run)
        _, summary = merge(folder, chunks_of(rows))
        assert not summary.judgement.passed
        assert name in {finding.metric for finding in summary.judgement.findings if finding.severity == "fail"}
        assert summary.passed.count == 3


def test_unreadable_images_are_counted_named_and_fail_unless_allowed(tmp_path: Path) -> None:
    rows = [row(0), unreadable(1), row(2), row(3), row(4)]
    found, run = merge(tmp_path, chunks_of(rows))
    assert run.judgement.passed
    assert found.unreadable == 1
    (reason,) = reasons_of(found, [run], 0)
    assert "001.png (cut)" in reason
    assert reasons_of(found, [run], 1) == ()


def test_nothing_readable_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none of 2 images"):
        merge(tmp_path, chunks_of([unreadable(0), unreadable(1)]))


def test_duplicates_are_named_and_are_no_new_draw(tmp_path: Path) -> None:
    rows = [row(number) for number in range(6)]
    rows[4] = row(4, content="content 1", output="output 1")
    found, run = merge(tmp_path, chunks_of(rows))
    assert (found.duplicates, run.passed.of) == (1, 5)
    (line,) = (tmp_path / "duplicates.jsonl").read_text().splitlines()
    assert json.loads(line) == {"number": 4, "name": "004.png", "of": "001.png"}
    assert run.judgement.passed  # the same output for the same image is no stale buffer


def test_an_output_that_another_image_had_fails(tmp_path: Path) -> None:
    rows = [row(number) for number in range(6)]
    rows[5] = row(5, output="output 0")  # of another chunk
    _, run = merge(tmp_path, chunks_of(rows))
    assert {f.metric for f in run.judgement.findings if f.severity == "fail"} == {"repeated_outputs"}


def test_rows_are_the_plans_each_once(tmp_path: Path) -> None:
    rows = [row(number) for number in range(8)]
    twice = [chunk(0, rows[:4]), chunk(1, rows[3:7])]
    with pytest.raises(BadInput, match="row 3 where 4"):
        merge(tmp_path, twice)
    plan = planned(tmp_path, 8)
    with pytest.raises(BadInput, match="4 rows for 8"):
        merged(order(root="."), plan, iter([chunk(0, rows[:4])]), ChunkStore(tmp_path), load_policy(), 3)


def test_a_failed_job_and_chunks_that_ran_apart_fail(tmp_path: Path) -> None:
    rows = [row(number) for number in range(8)]
    failed = [chunk(0, rows[:4]), chunk(1, rows[4:], status="timeout", error="too long", deterministic={})]
    assert failed[0].settled
    assert not failed[1].settled
    _, run = merge(tmp_path, failed)
    assert "run_failed" in {finding.code for finding in run.judgement.findings}
    other = [chunk(0, rows[:4]), chunk(1, rows[4:], model_sha256_had="0" * 64)]
    found, run = merge(tmp_path, other)
    assert any("did not run alike" in reason for reason in reasons_of(found, [run], 0))
    _, run = merge(tmp_path, [chunk(0, rows[:4]), chunk(1, rows[4:], deterministic={"image4": False})])
    assert "not_deterministic" in {finding.code for finding in run.judgement.findings}


def test_the_store_takes_only_the_chunk_that_was_asked_for(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path)
    (wanted, _), (second, _) = list(planned(tmp_path, 8).read())
    with store.held():
        store.store(chunk(0, [row(number) for number in range(4)], key="a").model_dump_json())
        assert store.load(wanted, "a") is not None
        assert store.load(wanted, "b") is None
        assert store.load(second, "a") is None
        store.file(1).write_bytes(store.file(0).read_bytes())
        assert store.load(second, "a") is None
        store.file(0).write_bytes(store.file(0).read_bytes()[:-9])
        assert store.load(wanted, "a") is None
        with pytest.raises(BadInput, match="another sweep"), ChunkStore(tmp_path).held():
            pass


def test_the_interval_is_the_exact_one() -> None:
    for count, of in ((0, 10), (10, 10), (9_990, 10_000), (3, 7)):
        found = agreement(count, of)
        exact = binomtest(count, of).proportion_ci(0.95, method="exact")
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high), rel=1e-9)
    assert (agreement(0, 0).low, agreement(0, 0).high) == (0, 1)


def test_sums_say_what_the_set_metrics_say() -> None:
    actual = {f"{n}": vectors(n) * 0.9 for n in range(9)}
    reference = {f"{n}": vectors(n) for n in range(9)}
    for output in actual.values():
        output[3] = 0.25
    pairs = [(actual[name], reference[name]) for name in actual]
    centre = vectors(99)
    first, second = spread_of(pairs[:4], centre), spread_of(pairs[4:], centre)
    assert first is not None
    assert second is not None
    whole = first.plus(second)
    dependence, share = input_dependence(actual, reference), frozen_share(actual, reference)
    assert isinstance(dependence, Measured)
    found = whole.input_dependence()
    assert isinstance(found, Measured)
    assert found.value == pytest.approx(dependence.value, rel=1e-12)
    assert whole.frozen_share() == share
    constant = spread_of([(np.full(8, 0.1), vectors(n)) for n in range(5)], centre)
    assert constant is not None
    assert constant.input_dependence() == Measured(0.0)
    assert isinstance(spread([1]).input_dependence(), Undefined)  # type: ignore[union-attr]


def test_the_gallery_says_what_the_set_metric_says() -> None:
    references = np.stack([vectors(n) for n in range(6)])
    outputs = references + 0.4 * np.stack([vectors(50 + n) for n in range(6)])
    worst = 0.0
    for own in range(6):
        others = [n for n in range(6) if n != own]
        stored = StoredGallery(
            key="",
            numbers=tuple(range(6)),
            sha256=tuple(map(str, range(6))),
            references=FloatArray.of(references),
            outputs={"cpu": FloatArray.of(outputs)},
        )
        held = Gallery(stored, "cpu").hold(outputs[own].astype(np.float32), references[own], str(own))
        regret = held.outcomes["nearest_neighbour_regret"]
        assert isinstance(regret, Measured)
        assert held.kept is (regret.value == 0)
        worst = max(worst, regret.value)
        assert isinstance(held.outcomes["misplacement"], Measured)
        assert len(others) == 5
    names = {str(n): outputs[n].astype(np.float32) for n in range(6)}
    expected = nearest_neighbour_regret(names, {str(n): references[n] for n in range(6)})
    assert isinstance(expected, Measured)
    assert worst == pytest.approx(expected.value, abs=1e-6)  # the gallery's side is not rounded to float32 here
    assert expected.value > 0


def test_repeats_are_counted_as_pairs(tmp_path: Path) -> None:
    with Seen(tmp_path / "seen") as seen:
        counts = [seen.repeats("cpu", "same", reference) for reference in ("a", "a", "b", "c")]
        assert counts == [0, 0, 2, 3]
        assert seen.repeats("gpu", "same", "b") == 0
        assert [seen.first("x", "one"), seen.first("x", "two"), seen.first("y", "three")] == [None, "one", None]
    assert not (tmp_path / "seen").exists()
