"""The whole selftest: clean models on every device, then every fault in every place that it can be in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.devices.discovery import Device, on_cpu, quickest, resolve
from fidelity.errors import EnvironmentMissing
from fidelity.models.subject import Subject
from fidelity.models.threads import SMALL, few_threads
from fidelity.progress import Reporter
from fidelity.rewrites.contract import Rewrite
from fidelity.selftest.catalogue import NEEDS_FP16, chosen_faults, faults_of, unplanted
from fidelity.selftest.locating import in_overflowing
from fidelity.selftest.outputs import GPU_ALONE, output_row
from fidelity.selftest.planting import Planter, side_by_side
from fidelity.selftest.records import CleanRow, FaultRow, Place, SelftestReport, Unplanted, all_right, fault_row
from fidelity.selftest.rig import Rig, seen_by_gate
from fidelity.selftest.specimen import Specimen, Tampered, build_subjects, specimens

TWO_BLOCK = "timm:vit_pe_core_base_patch16_224?depth=2&embed_dim=64&num_heads=2&img_size=64"


@dataclass(frozen=True)
class Asked:
    """What is tested: a source with the weights of `seeds` seeds from `seed` on; faults are drawn by `seed`.

    `devices` are words for devices, None for the CPU and the GPU; `only` names faults, None for all.
    """

    source: str = TWO_BLOCK
    seeds: int = 20
    seed: int = 0
    devices: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    images: Path = Path("golden/images")


def selftest(asked: Asked, policy: Policy, cache: Cache, reporter: Reporter) -> SelftestReport:
    """Everything planted and judged. Raises BadInput for an unknown fault or device word, EnvironmentMissing for a
    device that was named and is not here, and where there is none at all."""
    faults = chosen_faults(asked.only)
    devices, missing = _devices(asked.devices)
    rig = Rig(devices, policy, cache)
    return _Selftest(asked, faults, rig, reporter).run(missing)


class _Selftest:
    """One selftest, stage by stage."""

    def __init__(self, asked: Asked, faults: tuple[str, ...], rig: Rig, reporter: Reporter) -> None:
        self.asked, self.faults, self.rig, self.reporter = asked, faults, rig, reporter
        self.rewrites: tuple[Rewrite, ...] = ()

    def run(self, missing: dict[str, str]) -> SelftestReport:
        """The report."""
        from fidelity.rewrites.catalogue import chosen_for  # noqa: PLC0415 - torch is an extra

        asked = self.asked
        with self.reporter.stage("build the model", 1) as step:
            (subject,) = build_subjects(asked.source, [asked.seed], asked.images, step)
        self.rewrites = chosen_for("all", subject.model)
        size = subject.record.parameters
        with (
            few_threads(size),
            tempfile.TemporaryDirectory(prefix="fidelity-selftest-") as scratch,
            side_by_side(size) as pool,
        ):
            rows, clean = self._planted(subject, Planter(self.rig, self.rewrites, asked.seed, Path(scratch)), pool)
        left_out = [*unplanted(self.faults, tuple(self.rig.devices), self.rig.gpus), *self._outputs_left_out()]
        return SelftestReport(
            source=asked.source,
            seed=asked.seed,
            seeds=asked.seeds,
            policy=self.rig.policy.name,
            devices=tuple(self.rig.devices),
            passed=all_right(rows, clean, missing),
            faults=tuple(rows),
            clean=tuple(clean),
            unplanted=tuple(left_out),
            not_tested=missing,
            seconds=dict(self.reporter.seconds),
        )

    def _planted(self, subject: Subject, planter: Planter, pool: Executor) -> tuple[list[FaultRow], list[CleanRow]]:
        """All rows: what is planted in the model is judged while the clean models are converted."""
        more = self._overflow(subject)
        model = [pool.submit(planter.model, subject, name) for name in self._of("model") if name != NEEDS_FP16]
        graph: list[Future[Sequence[FaultRow]]] = []
        clean: list[CleanRow] = []
        for number, seeds in enumerate(self._groups(subject)):
            found, further = self._specimens(seeds, more if number == 0 else [])
            if number == 0:
                first, overflowing = found[0], further
                graph = [pool.submit(planter.graph, first, name) for name in self._of("artefact")]
            tried = [pool.submit(planter.clean, specimen) for specimen in found]
            self._wait(f"faults and clean models from seed {seeds[0]}", [*model, *graph, *tried])
            clean += [row for each in tried for row in each.result()]
        rows = [row for each in model for row in each.result()]
        rows += self._overflowing(first, overflowing)
        rows += sorted((row for each in graph for row in each.result()), key=lambda row: row.place)
        return [*rows, *self._output_faults(first)], clean

    def _of(self, place: Place) -> list[str]:
        return [name for name in self.faults if name in faults_of(place)]

    def _wait(self, title: str, parts: Sequence[Future[Any]]) -> None:
        """Until all are there, or one raises."""
        with self.reporter.stage(title, len(parts)) as step:
            for number, part in enumerate(as_completed(parts), 1):
                part.result()
                step(f"{number} of {len(parts)}")

    def _groups(self, subject: Subject) -> list[list[int]]:
        """The seeds that are in memory together: all of a small model, one of a large one."""
        seeds = list(range(self.asked.seed, self.asked.seed + self.asked.seeds))
        return [seeds] if subject.record.parameters <= SMALL else [[seed] for seed in seeds]

    def _specimens(self, seeds: Sequence[int], more: list[Tampered]) -> tuple[list[Specimen], dict[str, Path]]:
        which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
        with self.reporter.stage(f"convert {which}", 2 * len(seeds) + len(more) + 1) as step:
            subjects = build_subjects(self.asked.source, seeds, self.asked.images, step)
            return specimens(subjects, self.rewrites, more, self.rig.cache, step)

    def _overflow(self, subject: Subject) -> list[Tampered]:
        """The model that overflows: it is right in float32, so it goes to the GPU."""
        from fidelity.selftest.modules import plant, tower  # noqa: PLC0415 - torch is an extra

        if NEEDS_FP16 not in self._of("model") or not self.rig.gpus:
            return []
        found = plant(subject, self.rewrites, NEEDS_FP16, self.asked.seed)
        return [(f"overflow-{found.path}", tower(found), subject)]

    def _overflowing(self, specimen: Specimen, artefacts: dict[str, Path]) -> Iterator[FaultRow]:
        """The model that overflows, converted, on every GPU."""
        for name, artefact in artefacts.items():
            path = name.removeprefix("overflow-")
            for spec in self.rig.gpus:
                execution = self.rig.run(specimen, artefact, spec)
                predicted = self.rig.predicted(specimen, artefact, execution)
                run = self.rig.judged(specimen, artefact, spec, execution, predicted)
                seen = seen_by_gate(run.judgement)
                located = in_overflowing(self.rig, specimen, artefact, path, spec)
                yield fault_row(NEEDS_FP16, "model", spec, path, seen, located)

    def _output_faults(self, specimen: Specimen) -> list[FaultRow]:
        rows: list[FaultRow] = []
        names = self._of("output")
        with self.reporter.stage("faults in the output", len(names) * len(self.rig.devices)) as step:
            for spec in self.rig.devices:
                right = self.rig.run(specimen, specimen.artefact, spec)
                predicted = self.rig.predicted(specimen, specimen.artefact, right)
                for name in names:
                    step(f"{name} on {spec}")
                    if spec in self.rig.gpus or name not in GPU_ALONE:
                        rows.append(output_row(self.rig, specimen, name, self.asked.seed, spec, right, predicted))
        return rows

    def _outputs_left_out(self) -> list[Unplanted]:
        reason = "there is no other device's node, precision or bits to be taken for its own"
        return [
            Unplanted(fault=name, place="output", device=spec, reason=reason)
            for spec in self.rig.devices
            for name in GPU_ALONE
            if on_cpu(spec) and name in self.faults
        ]


def _devices(asked: tuple[str, ...] | None) -> tuple[dict[str, Device], dict[str, str]]:
    """The devices by word, by the executor that starts fastest; of the two that are usual, the reason why not."""
    if asked is not None:
        return {spec: quickest(resolve(spec)) for spec in asked}, {}
    found, missing = {}, {}
    for spec in ("cpu", "gpu"):
        try:
            found[spec] = quickest(resolve(spec))
        except EnvironmentMissing as error:
            missing[spec] = str(error)
    return found, missing
