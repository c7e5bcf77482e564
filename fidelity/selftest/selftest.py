"""The whole selftest: clean models on every device, then every fault in every place that it can be in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.devices.discovery import Device, on_cpu, quickest, resolve
from fidelity.errors import EnvironmentMissing
from fidelity.models.subject import Subject
from fidelity.models.threads import SMALL, few_threads
from fidelity.progress import Reporter
from fidelity.rewrites.contract import Rewrite
from fidelity.selftest.catalogue import NEEDS_FP16, chosen_faults, faults_of, unplanted
from fidelity.selftest.clean import clean_proof, clean_run
from fidelity.selftest.graphs import WEIGHTS_ALONE, artefact_row, device_row, plant, shows
from fidelity.selftest.locating import in_overflowing
from fidelity.selftest.outputs import GPU_ALONE, output_row
from fidelity.selftest.records import CleanRow, FaultRow, SelftestReport, Unplanted, all_right, fault_row
from fidelity.selftest.rig import Rig, seen_by_gate
from fidelity.selftest.specimen import Specimen, Tampered, build_subjects, specimens
from fidelity.selftest.weights import weights_row

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
        clean: list[CleanRow] = []
        with self.reporter.stage("build the model", 1) as step:
            (subject,) = build_subjects(asked.source, [asked.seed], asked.images, step)
        self.rewrites = chosen_for("all", subject.model)
        with (
            few_threads(subject.record.parameters),
            tempfile.TemporaryDirectory(prefix="fidelity-selftest-") as scratch,
        ):
            rows, more = self._model_faults(subject)
            for number, seeds in enumerate(self._groups(subject)):
                found, further = self._specimens(seeds, more if number == 0 else [])
                clean += self._clean(found)
                if number == 0:
                    first, artefacts = found[0], further
            rows += [*self._overflowing(first, artefacts), *self._graph_faults(first, Path(scratch))]
            rows += self._output_faults(first)
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

    def _groups(self, subject: Subject) -> list[list[int]]:
        """The seeds that are in memory together: all of a small model, one of a large one."""
        seeds = list(range(self.asked.seed, self.asked.seed + self.asked.seeds))
        return [seeds] if subject.record.parameters <= SMALL else [[seed] for seed in seeds]

    def _specimens(self, seeds: Sequence[int], more: list[Tampered]) -> tuple[list[Specimen], dict[str, Path]]:
        which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
        with self.reporter.stage(f"convert {which}", 2 * len(seeds) + len(more) + 1) as step:
            subjects = build_subjects(self.asked.source, seeds, self.asked.images, step)
            return specimens(subjects, self.rewrites, more, self.rig.cache, step)

    def _model_faults(self, subject: Subject) -> tuple[list[FaultRow], list[Tampered]]:
        """Rows of what the proof is for; the model that overflows is right in float32, and goes to the GPU."""
        from fidelity.selftest.modules import module_rows, tower  # noqa: PLC0415 - torch is an extra
        from fidelity.selftest.modules import plant as plant_model  # noqa: PLC0415

        rows: list[FaultRow] = []
        more: list[Tampered] = []
        what = (subject, self.rewrites)
        names = [name for name in self.faults if name in faults_of("model")]
        with self.reporter.stage("faults in the model", len(names)) as step:
            for name in names:
                step(name)
                if name != NEEDS_FP16:
                    rows += self._kept(subject, "model", name, partial(module_rows, *what, name, self.asked.seed))
                elif self.rig.gpus:
                    found = plant_model(subject, self.rewrites, name, self.asked.seed)
                    more.append((f"overflow-{found.path}", tower(found), subject))
        return rows, more

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

    def _clean(self, found: Sequence[Specimen]) -> list[CleanRow]:
        rows: list[CleanRow] = []
        with self.reporter.stage(f"clean from seed {found[0].seed}", len(found)) as step:
            for specimen in found:
                step(f"seed {specimen.seed}")
                rows.append(clean_proof(specimen, self.rewrites))
                rows += [clean_run(self.rig, specimen, spec) for spec in self.rig.devices]
        return rows

    def _graph_faults(self, specimen: Specimen, folder: Path) -> list[FaultRow]:
        rows: list[FaultRow] = []
        names = [name for name in self.faults if name in faults_of("artefact")]
        with self.reporter.stage("faults in the graph", len(names)) as step:
            for name in names:
                step(name)
                make = partial(self._graph_fault, specimen, name, folder)
                rows += self._kept(specimen.subject, "graph", name, make)
        return sorted(rows, key=lambda row: row.place)

    def _graph_fault(self, specimen: Specimen, name: str, folder: Path) -> list[FaultRow]:
        """The same operator and fault in the file and in the device: one run shows both."""
        if name in WEIGHTS_ALONE:
            return [weights_row(specimen, self.rewrites, plant(specimen, name, self.asked.seed, folder))]
        specs = [spec for spec in self.rig.devices if shows(name, spec)]
        rows: list[FaultRow] = []
        if not specs:
            return rows
        found, located = plant(specimen, name, self.asked.seed, folder), None
        for spec in specs:
            execution = self.rig.run(specimen, found.path, spec)
            rows.append(artefact_row(self.rig, specimen, found, spec, execution, located))
            located = rows[-1].located
            rows.append(device_row(self.rig, specimen, found, spec, execution))
        return rows

    def _kept(self, subject: Subject, place: str, fault: str, make: Callable[[], Sequence[FaultRow]]) -> list[FaultRow]:
        return self.rig.kept(subject, {"place": place, "fault": fault, "seed": self.asked.seed}, make)

    def _output_faults(self, specimen: Specimen) -> list[FaultRow]:
        rows: list[FaultRow] = []
        names = [name for name in self.faults if name in faults_of("output")]
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
