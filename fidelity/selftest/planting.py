"""The rows of one fault or one clean model: parts of a selftest that know nothing of each other, so that they can be
made side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from fidelity.errors import EnvironmentMissing
from fidelity.models.subject import Subject
from fidelity.models.threads import SMALL
from fidelity.rewrites.contract import Rewrite
from fidelity.selftest.clean import clean_proof, clean_run
from fidelity.selftest.graphs import WEIGHTS_ALONE, artefact_row, device_row, plant, shows
from fidelity.selftest.records import CleanRow, FaultRow
from fidelity.selftest.rig import Rig
from fidelity.selftest.specimen import Specimen
from fidelity.selftest.weights import weights_row

PROCESSES = 2
"""For a small model: emulating and comparing it is Python's own work, which has one core a process."""


@contextmanager
def side_by_side(parameters: int) -> Iterator[Executor]:
    """What makes the parts: processes for a small model; for a large one a single thread, whose operations use every
    core and whose memory is the limit. What nobody has begun when an error leaves is not made.

    Raises EnvironmentMissing where a process was ended from outside: the system does that when memory runs out."""
    pool = (
        ThreadPoolExecutor(1)
        if parameters > SMALL
        else ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"), initializer=_one_thread)
    )
    try:
        yield pool
    except BrokenExecutor as error:
        raise EnvironmentMissing(
            "selftest: one of its processes was ended, as when memory runs out; what it did so far is kept: "
            "give the same command again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Planter:
    """Plants and judges. `seed` draws the faults, planted files go to `folder`."""

    rig: Rig
    rewrites: tuple[Rewrite, ...]
    seed: int
    folder: Path

    def model(self, subject: Subject, name: str) -> Sequence[FaultRow]:
        """A fault in the torch model: what the proof is for."""
        from fidelity.selftest.modules import module_rows  # noqa: PLC0415 - torch is an extra

        make = partial(module_rows, subject, self.rewrites, name, self.seed)
        return self.rig.kept(subject, self._key("model", name), make)

    def graph(self, specimen: Specimen, name: str) -> Sequence[FaultRow]:
        """The same operator and fault in the file and in the device: one run shows both."""
        make = partial(self._graph, _the_same(specimen), name)
        return self.rig.kept(specimen.subject, self._key("graph", name), make)

    def clean(self, specimen: Specimen) -> Sequence[CleanRow]:
        """A clean model, proved, and run on every device."""
        runs = [clean_run(self.rig, specimen, spec) for spec in self.rig.devices]
        return [clean_proof(specimen, self.rewrites), *runs]

    def _graph(self, specimen: Specimen, name: str) -> list[FaultRow]:
        if name in WEIGHTS_ALONE:
            return [weights_row(specimen, self.rewrites, plant(specimen, name, self.seed, self.folder))]
        specs = [spec for spec in self.rig.devices if shows(name, spec)]
        rows: list[FaultRow] = []
        if not specs:
            return rows
        found, located = plant(specimen, name, self.seed, self.folder), None
        for spec in specs:
            execution = self.rig.run(specimen, found.path, spec)
            rows.append(artefact_row(self.rig, specimen, found, spec, execution, located))
            located = rows[-1].located
            rows.append(device_row(self.rig, specimen, found, spec, execution))
        return rows

    def _key(self, place: str, fault: str) -> dict[str, str | int]:
        return {"place": place, "fault": fault, "seed": self.seed}


_LAST: dict[Path, Specimen] = {}


def _the_same(specimen: Specimen) -> Specimen:
    """The object that this process had for the specimen before: its tower is traced once, not once a fault."""
    if specimen.artefact not in _LAST:
        _LAST.clear()
        _LAST[specimen.artefact] = specimen
    return _LAST[specimen.artefact]


def _one_thread() -> None:
    import torch  # noqa: PLC0415 - an extra

    torch.set_num_threads(1)
