"""The manifest beside an artefact: what it was made from, with what, and what exactly it is.

`model.tflite` has `model.tflite.manifest.json`. A file that is not the one described is an error
that says what differs: the weights, the graph, the contract, or the manifest itself.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints

from fidelity.errors import BadInput
from fidelity.models.input_contract import Scaling
from fidelity.record import Record, canonical_json
from fidelity.tflite.fingerprint import constants_sha256, file_sha256, structure_sha256
from fidelity.tflite.graph import Graph, read_graph

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

_TOOLS = (
    *("torch", "timm", "litert-torch", "litert-converter", "ai-edge-quantizer", "ai-edge-litert"),
    *("numpy", "fidelity"),
)


WeightsDtype = Literal["float32", "float16"]
"""Of an artefact's large constants; what is not a matrix or kernel stays float32."""


class AppliedRewrite(Record):
    """A rewrite that the model went through before it was converted, by name and contract version."""

    name: str
    version: int


class Provenance(Record):
    """What only the caller knows: source and weights as given, the weights' hash, the rewrites in order, and how
    the image input is scaled, which the graph does not tell (None in manifests of before it was kept)."""

    source: str
    weights: str
    weights_sha256: Sha256
    rewrites: tuple[AppliedRewrite, ...] = ()
    scaling: Scaling | None = None


class TensorContract(Record):
    """One input or output: the name that a caller uses, the shape (-1: dynamic) and the NumPy dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class IoContract(Record):
    """How the artefact is called."""

    signature: str
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]


class Manifest(Record):
    """All of it. `structure_sha256` and `constants_sha256` tell which part of a changed file changed;
    `digest` is over every other field, so that an edited manifest is noticed too."""

    version: Literal[1] = 1
    artefact: str
    provenance: Provenance
    tools: dict[str, str]
    contract: IoContract
    weights_dtype: WeightsDtype
    census: dict[str, int]
    file_size: int
    sha256: Sha256
    structure_sha256: Sha256
    constants_sha256: Sha256
    digest: str = ""

    def own_digest(self) -> str:
        """SHA-256 over every field but `digest`; what is None is left out, as it was before that field was there."""
        content = self.model_dump(mode="json", exclude={"digest"}, exclude_none=True)
        return hashlib.sha256(canonical_json(content)).hexdigest()


def manifest_path(artefact: Path) -> Path:
    """Where an artefact's manifest lies: beside it, under its name and `.manifest.json`."""
    return artefact.with_name(f"{artefact.name}.manifest.json")


def write_manifest(artefact: Path, provenance: Provenance) -> Manifest:
    """Describe the artefact, store the description beside it, and give it back.

    Raises BadInput for a file that is no .tflite, EnvironmentMissing when it cannot be written.
    """
    manifest = describe(read_graph(artefact), provenance)
    manifest.write(manifest_path(artefact))
    return manifest


def describe(graph: Graph, provenance: Provenance) -> Manifest:
    """The manifest of a graph that was read, with the versions of the tools installed here."""
    manifest = Manifest(
        artefact=graph.path.name,
        provenance=provenance,
        tools=tool_versions(),
        contract=io_contract(graph),
        weights_dtype=weights_dtype_of(graph),
        census=graph.census(),
        file_size=graph.size,
        sha256=file_sha256(graph),
        structure_sha256=structure_sha256(graph),
        constants_sha256=constants_sha256(graph),
    )
    return manifest.model_copy(update={"digest": manifest.own_digest()})


def read_manifest(artefact: Path) -> Manifest:
    """The manifest beside an artefact. Raises BadInput when it is missing, malformed or edited."""
    path = manifest_path(artefact)
    manifest = Manifest.read(path)
    if manifest.digest != manifest.own_digest():
        raise BadInput(
            f"{path}: digest differs: the manifest says {manifest.digest[:16]}, its fields give "
            f"{manifest.own_digest()[:16]}: it was edited; convert the model again"
        )
    return manifest


def verify_manifest(artefact: Path) -> Manifest:
    """The manifest of an artefact that is the very file it describes.

    Raises BadInput that names what differs, with both hashes, when it is not.
    """
    manifest = read_manifest(artefact)
    graph = read_graph(artefact)
    actual = file_sha256(graph)
    if actual == manifest.sha256:
        return manifest
    hashes = (
        ("constants", "the weights", constants_sha256(graph), manifest.constants_sha256),
        ("structure", "the graph", structure_sha256(graph), manifest.structure_sha256),
    )
    differing = [f"{what} ({name}_sha256 {a[:16]}, not {b[:16]})" for name, what, a, b in hashes if a != b]
    what = " and ".join(differing) or "neither the weights nor the graph, only other bytes of the file"
    raise BadInput(
        f"{artefact}: sha256 differs from its manifest: {actual[:16]}, not {manifest.sha256[:16]}; "
        f"what differs: {what}; convert the model again"
    )


def io_contract(graph: Graph) -> IoContract:
    """Names, shapes and dtypes of the file's one signature. Raises BadInput when there is not just one."""
    signature = graph.signature()
    tensors = graph.subgraphs[signature.subgraph].tensors

    def of(entries: tuple[tuple[str, int], ...]) -> tuple[TensorContract, ...]:
        return tuple(
            TensorContract(name=name, shape=tensors[i].shape_signature, dtype=tensors[i].dtype) for name, i in entries
        )

    return IoContract(signature=signature.key, inputs=of(signature.inputs), outputs=of(signature.outputs))


def tool_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what an artefact looks like, those installed."""
    versions = {"python": platform.python_version()}
    for tool in _TOOLS:
        try:
            versions[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def weights_dtype_of(graph: Graph) -> WeightsDtype:
    """float16 as soon as one constant is, else float32."""
    constants = (t for s in graph.subgraphs for t in s.tensors if t.is_constant)
    return "float16" if any(t.dtype == "float16" for t in constants) else "float32"
