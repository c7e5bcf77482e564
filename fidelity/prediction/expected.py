"""Expected outputs of an artefact under a profile, computed once and stored as raw arrays beside JSON.

What is stored needs neither model nor emulator to be compared again; its hashes say what it is of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.profile import Profile
from fidelity.cache import Cache, tool_versions
from fidelity.comparison.expectation import ProfileId
from fidelity.devices.job import TensorFile
from fidelity.devices.tensor_files import array_sha256, read_tensor, safe_name, write_tensor
from fidelity.prediction.site import Site, by_danger, first_overflow
from fidelity.prediction.watch import SiteWatch
from fidelity.record import Record, canonical_json
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.fingerprint import file_sha256
from fidelity.tflite.graph import read_graph

EXPECTED = "expected.json"
Array = NDArray[Any]
Outputs = dict[str, dict[str, Array]]
Step = Callable[[str], None]


class Lacking(Record):
    """An operator that the emulator cannot compute under the profile, by its index in the file."""

    operator: int
    name: str
    reason: str


class ExpectedTensor(Record):
    """One output of one input, as it is stored."""

    input: str
    output: str
    tensor: TensorFile


class Expected(Record):
    """What the profile makes of an artefact. `sites` are in order of danger.

    `lacking` are operators that could not be computed, `unreached` how many depend on them: outputs
    that do are not there.
    """

    model: str
    model_sha256: str
    profile: ProfileId
    inputs: dict[str, str]
    outputs: tuple[ExpectedTensor, ...]
    sites: tuple[Site, ...]
    first_overflow: Site | None
    lacking: tuple[Lacking, ...]
    unreached: int
    versions: dict[str, str]

    @property
    def lacks(self) -> str | None:
        """What the emulator lacks, in a line; None when it computed everything."""
        if not self.lacking:
            return None
        first = self.lacking[0]
        more = f" and {len(self.lacking) - 1} more" if len(self.lacking) > 1 else ""
        return f"op {first.operator} {first.name}{more}: {first.reason}; {self.unreached} operators depend on it"


def profile_id(profile: Profile) -> ProfileId:
    """A profile by its name and the hash of everything in it."""
    digest = hashlib.sha256(canonical_json(profile.model_dump(mode="json"))).hexdigest()
    return ProfileId(name=profile.name, sha256=digest, measured=profile.origin.kind == "measured")


def expected_in_cache(artefact: Path, inputs: Mapping[str, Array], profile: Profile, cache: Cache, step: Step) -> Path:
    """The folder of the artefact's expected outputs, emulated first if they are not in the cache.

    `inputs` are arrays for the artefact's one input, by name. Raises BadInput for NaN or Inf in one of
    them, for another shape or dtype, and for a file that is no .tflite of one input.
    """
    graph = read_graph(artefact)
    key = {
        "artefact": file_sha256(graph),
        "name": artefact.name,
        "inputs": {name: array_sha256(array) for name, array in inputs.items()},
        "profile": profile_id(profile).sha256,
    }
    return cache.entry("expected", key, lambda folder: _store(artefact, inputs, profile, folder, step))


def load_expected(folder: Path) -> tuple[Expected, Outputs]:
    """What a folder of expected outputs holds. Raises BadInput when something is missing or altered."""
    expected = Expected.read(folder / EXPECTED)
    outputs: Outputs = {name: {} for name in expected.inputs}
    for stored in expected.outputs:
        outputs.setdefault(stored.input, {})[stored.output] = read_tensor(folder, stored.tensor)
    return expected, outputs


def _store(artefact: Path, inputs: Mapping[str, Array], profile: Profile, folder: Path, step: Step) -> None:
    graph = read_graph(artefact)
    emulator = Emulator(graph, profile)
    subgraph = graph.subgraphs[emulator.signature.subgraph]
    ((name, tensor),) = emulator.signature.inputs
    watch = SiteWatch(subgraph, profile, emulator.steps)
    stored: list[ExpectedTensor] = []
    lacking: dict[int, Lacking] = {}
    unreached = 0
    for each, array in inputs.items():
        step(each)
        found = emulator.run({name: array}, watch.during(each, {tensor: array}))
        lacking |= {m.operator: Lacking(operator=m.operator, name=m.name, reason=m.reason) for m in found.missing}
        unreached = max(unreached, len(found.unreached))
        for output, values in found.outputs.items():
            file = f"outputs/{safe_name(f'{each}/{output}')}.raw"
            stored.append(
                ExpectedTensor(input=each, output=output, tensor=write_tensor(folder, file, np.asarray(values)))
            )
    sites = watch.sites()
    Expected(
        model=artefact.name,
        model_sha256=file_sha256(graph),
        profile=profile_id(profile),
        inputs={each: array_sha256(array) for each, array in inputs.items()},
        outputs=tuple(stored),
        sites=by_danger(sites),
        first_overflow=first_overflow(sites),
        lacking=tuple(lacking[index] for index in sorted(lacking)),
        unreached=unreached,
        versions=dict(tool_versions()),
    ).write(folder / EXPECTED)
