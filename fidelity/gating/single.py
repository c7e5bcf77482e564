"""One artefact outside the gate: run it once, or compare it with a source model or a golden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.profile import Profile
from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.devices.discovery import resolve
from fidelity.devices.job import Precision
from fidelity.errors import BadInput
from fidelity.gating.config import RunPlan
from fidelity.gating.evidence import Embeddings
from fidelity.gating.execution import Execution, execute
from fidelity.gating.expecting import profile_for
from fidelity.gating.judging import Truth, judged, only_output
from fidelity.gating.predicting import Against, predict_artefact
from fidelity.models.input_contract import InputContract, Scaling
from fidelity.models.inputs import InputSet, load_inputs
from fidelity.models.label_set import LabelSet
from fidelity.models.subject import Subject
from fidelity.prediction.expected import load_expected
from fidelity.prediction.predicted import Predicted
from fidelity.progress import Step
from fidelity.report.document import DeviceRun
from fidelity.tflite.graph import read_graph
from fidelity.tflite.manifest import (
    TensorContract,
    io_contract,
    manifest_path,
    read_manifest,
    verify_manifest,
    weights_dtype_of,
)

_LARGEST_INPUT = 256 << 20


@dataclass(frozen=True)
class Reference:
    """What an artefact is compared with: embeddings by input, and the weights that they are of.

    `subject` is the model itself, None for a golden and for arrays; the weights of arrays are not known.
    """

    truth: Embeddings
    weights_sha256: str | None
    name: str
    subject: Subject | None = None


def run_once(
    artefact: Path, device: str, precision: Precision, inputs: Mapping[str, NDArray[Any]], cache: Cache, step: Step
) -> Execution:
    """Run the artefact over inputs that fit it. Raises BadInput for a file or device word."""
    plan = RunPlan(
        label="run", device=device, precision=precision, weights_dtype=weights_dtype_of(read_graph(artefact))
    )
    return execute(artefact, resolve(device), plan, inputs, cache, step)


def compare_once(
    artefact: Path,
    plan: RunPlan,
    inputs: InputSet,
    reference: Reference,
    policy: Policy,
    cache: Cache,
    step: Step,
    profile: Profile | None = None,
    labels: LabelSet | None = None,
) -> DeviceRun:
    """Run the artefact and judge it against a reference of the same weights.

    An fp16 run on a GPU is also held against what `profile`, or its device's own, says that it must give.

    With `labels`, how labels and images are ordered is judged too.

    Raises BadInput when the manifest says that the artefact is of other weights, and for labels of another model.
    """
    check_same_weights(artefact, reference)
    if labels is not None:
        labels.check_fits(next(iter(reference.truth.values())), reference.name)
    missing = sorted(set(inputs.arrays) - set(reference.truth))
    if missing:
        raise BadInput(f"input {missing[0]!r}: {reference.name} has no reference for it")
    execution = execute(artefact, resolve(plan.device), plan, inputs.arrays, cache, step)
    known = Truth(reference.truth, only_output(io_contract(read_graph(artefact))), inputs.photographs, labels)
    used = profile_for(execution.result, profile)
    predicted = None
    if used is not None:
        against = Against(reference.truth, inputs.photographs, reference.name)
        prediction, folder = predict_artefact(artefact, inputs.arrays, used, against, policy, cache, step)
        predicted = Predicted(prediction, load_expected(folder)[1])
    return judged(plan, execution, known, policy, None, predicted)


def check_same_weights(artefact: Path, reference: Reference) -> None:
    """Raises BadInput when the manifest, where there is one, says that the artefact is of other weights."""
    if not manifest_path(artefact).is_file() or reference.weights_sha256 is None:
        return
    stored = verify_manifest(artefact).provenance.weights_sha256
    if stored != reference.weights_sha256:
        raise BadInput(
            f"{artefact}: made from weights {stored[:16]}..., {reference.name} has "
            f"{reference.weights_sha256[:16]}...: another model, or other weights or seed"
        )


def image_input(artefact: Path) -> TensorContract:
    """The artefact's only input. Raises BadInput for a file that is no .tflite of one static input."""
    contract = io_contract(read_graph(artefact))
    if len(contract.inputs) != 1 or any(size < 1 for size in contract.inputs[0].shape):
        raise BadInput(f"{artefact}: takes {len(contract.inputs)} inputs, or one of a dynamic shape; expected one")
    return contract.inputs[0]


def image_inputs(artefact: Path, images: Path, names: tuple[str, ...] | None, seed: int) -> InputSet:
    """The photographs and stress images at the artefact's size, scaled as its manifest says; to [-1, 1] without one.

    Raises BadInput for an artefact of another input.
    """
    taken = image_input(artefact)
    if taken.dtype != "float32" or len(taken.shape) != 4 or taken.shape[:2] != (1, 3):
        raise BadInput(
            f"input {taken.name!r} is {taken.dtype} {taken.shape}, not an NCHW image [1, 3, H, W]: "
            "give it with --input FILE.npy"
        )
    _, _, height, width = taken.shape
    told = read_manifest(artefact).provenance.scaling if manifest_path(artefact).is_file() else None
    scaling = told or Scaling()
    contract = InputContract(name=taken.name, shape=(1, 3, height, width), mean=scaling.mean, std=scaling.std)
    inputs = load_inputs(images, contract, seed=seed)
    return inputs if names is None else inputs.only(names)


def load_array(file: Path, artefact: Path) -> dict[str, NDArray[Any]]:
    """One .npy input, checked against the artefact's. Raises BadInput."""
    array = read_array(file)
    check_array(array, image_input(artefact), str(file))
    return {file.stem: array}


def read_array(file: Path) -> NDArray[Any]:
    """The array in a .npy file of at most 256 MiB. Raises BadInput for anything else."""
    try:
        if file.stat().st_size > _LARGEST_INPUT:
            raise BadInput(f"{file}: larger than {_LARGEST_INPUT >> 20} MiB")
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{file}: not a .npy array: {' '.join(str(error).split())[:160]}") from error
    if not isinstance(array, np.ndarray):
        raise BadInput(f"{file}: an archive, not one array")
    return array


def check_array(array: NDArray[Any], taken: TensorContract, where: str) -> None:
    """Raises BadInput for an array that the artefact does not take, or that holds NaN or Inf."""
    if str(array.dtype) != taken.dtype or array.shape != taken.shape:
        raise BadInput(
            f"{where}: {array.dtype} {array.shape}, the model takes {taken.dtype} {taken.shape} for {taken.name!r}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadInput(f"{where}: holds NaN or Inf")
