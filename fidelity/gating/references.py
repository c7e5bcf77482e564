"""The reference of a comparison: a source model run in float64 on the very inputs, or a committed golden."""

from __future__ import annotations

from pathlib import Path

from fidelity.errors import BadInput
from fidelity.gating.single import Reference
from fidelity.models.inputs import InputSet


def find_reference(text: str, weights: str, seed: int, inputs: InputSet, goldens: Path) -> Reference:
    """`golden:NAME`, read and checked byte for byte, or `timm:NAME`, built and run. Raises BadInput."""
    if text.startswith("golden:"):
        from fidelity.golden import embeddings, read_golden  # noqa: PLC0415

        manifest, arrays = read_golden(goldens, text.removeprefix("golden:"))
        check_shapes(text, inputs, manifest.subject.contract.shape)
        _check_inputs(text, inputs, {each.name: each.sha256 for each in manifest.subject.inputs})
        return Reference(embeddings(arrays), manifest.subject.weights_sha256, text)
    if text.startswith("timm:"):
        from fidelity.models.input_contract import input_contract  # noqa: PLC0415 - torch is an extra
        from fidelity.models.subject import built, subject_of, truth  # noqa: PLC0415

        model = built(text, weights, seed)
        contract = input_contract(model)
        check_shapes(text, inputs, contract.shape)
        subject = subject_of(model, inputs, contract, source=text, weights=weights, seed=seed)
        return Reference(truth(subject), subject.record.weights_sha256, text, subject)
    raise BadInput(f"reference {text!r}: expected timm:NAME or golden:NAME")


def check_shapes(name: str, inputs: InputSet, shape: tuple[int, ...]) -> None:
    """Raises BadInput where the artefact's input is of another shape than the model's."""
    for each, array in inputs.arrays.items():
        if array.shape != shape:
            raise BadInput(f"input {each!r}: {list(array.shape)}, {name} takes {list(shape)}")


def _check_inputs(name: str, inputs: InputSet, known: dict[str, str]) -> None:
    """Raises BadInput for an input of another content than the one that the golden was recorded on."""
    for each in inputs.records:
        if known.get(each.name, each.sha256) != each.sha256:
            raise BadInput(f"input {each.name!r}: not the one that {name} was recorded on: other scaling or seed")
