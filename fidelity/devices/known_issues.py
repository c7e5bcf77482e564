"""Bugs that users have reported of the GPU delegate, each as a tiny model: does this device have it?

A bug is `shown` when the device took the graph and an output is not what arithmetic says, or, where
the report is about a refusal, when it refuses the graph. It is `absent` when every output is right.
Anything else is `not testable here`, with the reason: that a device did not answer is no proof.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fidelity.devices import known_issue_elementwise as elementwise
from fidelity.devices import known_issue_norms as norms
from fidelity.devices import known_issue_products as products
from fidelity.devices.believing import load_outputs
from fidelity.devices.discovery import Device
from fidelity.devices.job import JobResult
from fidelity.devices.known_issue_judgement import Answer, Judgement, judge, of_several
from fidelity.devices.known_issue_sketch import Sketch, Trial
from fidelity.devices.prepare import prepare_job
from fidelity.devices.run import run_job
from fidelity.record import Record

Run = Callable[[Path, Device], JobResult]
_SECONDS = 60.0
_LITERT = "https://github.com/google-ai-edge/LiteRT/issues/"
_TORCH = "https://github.com/google-ai-edge/litert-torch/issues/"


class KnownIssueResult(Record):
    """One reported bug on one device. `evidence` is one line: how it differs, or why it cannot be told."""

    number: str
    title: str
    url: str
    device: str
    runtime: str
    judgement: Judgement
    evidence: str


@dataclass(frozen=True)
class KnownIssue:
    """A report, and the graphs that it is tried on.

    `needs_fp16`: a device that computes in float32 cannot have it. `refusal`: the report is that the
    delegate will not take the graph.
    """

    number: str
    title: str
    trials: tuple[Trial, ...]
    url: str
    needs_fp16: bool = False
    refusal: bool = False


def _issue(number: int, title: str, *trials: Trial, needs_fp16: bool = False, refusal: bool = False) -> KnownIssue:
    return KnownIssue(f"#{number}", title, trials, f"{_LITERT}{number}", needs_fp16, refusal)


ISSUES: tuple[KnownIssue, ...] = (
    _issue(9249, "a SUM in fp16 past 65,504", elementwise.sum_past_the_largest_number, needs_fp16=True),
    _issue(8619, "rank-3 attention at full residency, wrong, not for fp16", products.two_way_attention),
    _issue(8593, "a broadcast ADD on a BATCH_MATMUL result", products.mask_on_a_product),
    _issue(8599, "an ADD both output and read gives an operand", elementwise.add_both_output_and_consumed),
    _issue(
        9272,
        "a rank-3 PAD shifts rows",
        elementwise.pad_the_middle_axis,
        elementwise.pad_the_outermost_axis,
    ),
    _issue(8913, "BATCH_MATMUL ignores adj_x and adj_y", *products.turned_products),
    _issue(8980, "operands of two ranks are misaligned", elementwise.add_of_two_ranks, elementwise.mul_of_two_ranks),
    _issue(8598, "RELU_0_TO_1 is refused since 2.1.5", elementwise.clip_to_one, refusal=True),
    _issue(7693, "all-zero embeddings in fp16", norms.root_mean_square_of_large_numbers, needs_fp16=True),
    KnownIssue("litert-torch #718", "a LayerNorm gives zeros", (norms.layer_norm_of_a_convolution,), f"{_TORCH}718"),
)


def examine(
    device: Device,
    issues: tuple[KnownIssue, ...] = ISSUES,
    *,
    run: Run = run_job,
    on_issue: Callable[[str], None] = lambda _: None,
) -> tuple[KnownIssueResult, ...]:
    """Try every issue on the device, at its default precision: one small job each, about two seconds.

    `on_issue` is told the number as each begins. Raises EnvironmentMissing when the executor is missing.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="fidelity-known-issues-") as folder:
        for index, issue in enumerate(issues):
            on_issue(issue.number)
            found.append(_examined(issue, device, Path(folder) / str(index), run))
    return tuple(found)


def _examined(issue: KnownIssue, device: Device, folder: Path, run: Run) -> KnownIssueResult:
    """All trials in one graph; if the device will not take that whole, each in a graph of its own."""
    answers = [_asked(issue.trials, device, folder / "all", run)]
    if not answers[0].taken and len(issue.trials) > 1:
        answers = [_asked((trial,), device, folder / str(index), run) for index, trial in enumerate(issue.trials)]
    told = [judge(answer, needs_fp16=issue.needs_fp16, refusal=issue.refusal) for answer in answers]
    judgement, evidence = of_several(told)
    runtime = next((answer.result.runtime for answer in answers if answer.result.runtime), {})
    return KnownIssueResult(
        number=issue.number,
        title=issue.title,
        url=issue.url,
        device=device.info.name,
        runtime=runtime.get("ai-edge-litert") or next(iter(runtime.values()), "unknown"),
        judgement=judgement,
        evidence=evidence,
    )


def _asked(trials: tuple[Trial, ...], device: Device, folder: Path, run: Run) -> Answer:
    sketch = Sketch()
    for trial in trials:
        trial(sketch)
    folder.mkdir(parents=True)
    model = folder / "issue.tflite"
    model.write_bytes(sketch.build())
    job = folder / "job"
    prepare_job(job, model, {"one": sketch.inputs}, device=device.job_device, timeout_seconds=_SECONDS)
    result = run(job, device)
    outputs = load_outputs(job, result).get("one", {}) if result.status == "ok" else {}
    return Answer(sketch.outputs, result, outputs)


def summary(results: tuple[KnownIssueResult, ...]) -> str:
    """What a device was found to be: a line for each issue that it shows or that cannot be told, one for the rest."""
    if not results:
        return "known issues: none tried"
    told = [f"{r.number} {r.judgement}: {r.evidence}" for r in results if r.judgement != "absent"]
    absent = [r.number for r in results if r.judgement == "absent"]
    told += [f"absent: {', '.join(absent)}"] if absent else []
    return "\n  ".join([f"known issues of {results[0].device}, runtime {results[0].runtime}:", *told])
