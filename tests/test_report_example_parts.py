"""The parts of a gate report that no run is needed for: a proof of the rewrites, audited artefacts."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fidelity.comparison.run_facts import WeightsDtype
from fidelity.models.inputs import STRESS
from fidelity.report.document import ArtefactReport, GraphOperator, tensor_digest
from fidelity.rewrites.contract import Contract, Exactness
from fidelity.rewrites.proof import Decision, Difference, Proof, SiteProof, TensorProof, WeightsProof
from fidelity.tflite.audit import AuditReport, count_by_rule
from fidelity.tflite.finding import AuditFinding
from fidelity.tflite.manifest import AppliedRewrite, IoContract, Manifest, Provenance, TensorContract

PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "gravel", "hubble-deep-field", "retina", "rocket")
INPUTS = (*PHOTOGRAPHS, *STRESS)


def sha(text: str) -> str:
    """A stand-in for a SHA-256 that is told apart from others."""
    return (text.encode().hex() * 64)[:64]


NAMES = ("split_qkv", "rotate_half", "pool_one_query", "safe_layernorm")


def contract(name: str) -> Contract:
    """A contract of the shape that the catalogue has."""
    return Contract(
        name=name,
        version=1,
        applies_to=f"what {name} is about",
        exactness=Exactness.ROUNDING,
        bound="sums run in another order",
        fp16_domain="rows whose standard deviation is between 0.03 and 295",
        fp16_row_deviation=(0.03, 295.0) if name == "safe_layernorm" else None,
        reason="the delegate reduces the variance in fp16, which overflows at |x| of 50",
        cures="fp16 overflow in a LayerNorm's variance",
    )


def site(path: str, rewrites: tuple[str, ...], seed: int) -> SiteProof:
    """A site within its limits."""
    generator = np.random.default_rng(seed)
    wide, narrow = generator.uniform(0.5, 4, 2)
    return SiteProof(
        path=path,
        rewrites=rewrites,
        calls=13,
        float64=Difference(worst=wide * 1e-15, allowed=1e-12, input="noise"),
        float32=Difference(worst=narrow * 1e-7, allowed=9.5e-6, input="hubble-deep-field"),
        exactness=Exactness.ROUNDING,
    )


def proof(names: tuple[str, ...] = NAMES) -> Proof:
    """A proof that passes, of three blocks with norms, attention and a pool."""
    paths = [(f"blocks.{i}.attn", ("split_qkv", "rotate_half")) for i in range(3)]
    paths += [(f"blocks.{i}.norm{j}", ("safe_layernorm",)) for i in range(3) for j in (1, 2)]
    paths += [(f"blocks.{i}", ("split_qkv", "rotate_half", "safe_layernorm")) for i in range(3)]
    paths += [("attn_pool", ("pool_one_query",)), ("", NAMES)]
    kept = [(path, tuple(name for name in of if name in names)) for path, of in paths]
    taken = [
        Decision(rewrite=name, path=path, module="Attention")
        for path, of in kept
        for name in of
        if path and not path.rpartition(".")[2].isdigit()
    ]
    refused = Decision(
        rewrite="safe_layernorm",
        path="attn_pool.norm",
        module="Identity",
        refused="not a LayerNorm over the last axis",
    )
    copied = [
        TensorProof(tensor=f"{path}.weight", source=f"{path}.weight", bits_equal=True, how="copied whole")
        for path, _ in kept
        if path
    ]
    cosine = TensorProof(
        tensor="blocks.0.attn.cosine", source="rope.pos_embed", bits_equal=None, how="even then odd channels"
    )
    return Proof(
        source="timm:vit_pe_core_base_patch16_224",
        weights="seeded",
        contracts=tuple(contract(name) for name in names),
        decisions=(*taken, refused) if "safe_layernorm" in names else tuple(taken),
        weights_map=WeightsProof(
            tensors=(*copied, cosine),
            lost=(),
            unexplained=(),
            copied_values=93_657_856,
            derived_tensors=("blocks.0.attn.cosine",),
        ),
        sites=tuple(site(path, of, seed) for seed, (path, of) in enumerate(kept)),
        inputs=INPUTS,
    )


CENSUS = {"ADD": 217, "BATCH_MATMUL": 24, "FULLY_CONNECTED": 76, "TRANSPOSE": 97, "MUL": 403}
PARTS = ("attn", "norm1", "mlp.fc1")


def written(place: int) -> str:
    """The name of the tensor that an operator of the example writes."""
    return f"vit/blocks.{place * 12 // 817}/attn/reshape;{place}"


def operators() -> tuple[GraphOperator, ...]:
    """A graph of the census: its kinds dealt out over twelve blocks, each operator reading the one before."""
    left = dict(CENSUS)
    kinds = []
    while left:
        for kind in tuple(left):
            kinds.append(kind)
            left[kind] -= 1
            if not left[kind]:
                del left[kind]
    return tuple(
        GraphOperator(
            kind=kind,
            module=None if place == len(kinds) - 1 else f"EvaBlock_{place * 12 // len(kinds)}.{PARTS[place % 3]}",
            tensor=tensor_digest(written(place)),
            reads=(place - 1,) if place else (),
        )
        for place, kind in enumerate(kinds)
    )


def artefact(weights: WeightsDtype, findings: tuple[AuditFinding, ...] = ()) -> ArtefactReport:
    """One artefact, with these findings of its audit."""
    size = 372_604_388 if weights == "float32" else 186_512_345
    census = CENSUS
    tensor = TensorContract(name="image", shape=(1, 3, 224, 224), dtype="float32")
    manifest = Manifest(
        artefact=f"model.{weights}.tflite",
        provenance=Provenance(
            source="timm:vit_pe_core_base_patch16_224",
            weights="seeded",
            weights_sha256=sha("weights"),
            rewrites=tuple(AppliedRewrite(name=name, version=1) for name in NAMES),
        ),
        tools={"torch": "2.14.1", "litert-torch": "0.10.0"},
        contract=IoContract(
            signature="serving_default",
            inputs=(tensor,),
            outputs=(TensorContract(name="embedding", shape=(1, 1024), dtype="float32"),),
        ),
        weights_dtype=weights,
        census=census,
        file_size=size,
        sha256=sha(weights),
        structure_sha256=sha("structure"),
        constants_sha256=sha("constants"),
    )
    audit = AuditReport(
        artefact=manifest.artefact,
        file_size=size,
        nodes=sum(census.values()),
        tensors=1402,
        census=census,
        findings=findings,
        counts=count_by_rule(findings),
        passed=not any(finding.severity == "refused" for finding in findings),
    )
    return ArtefactReport(
        weights_dtype=weights,
        path=f"artefacts/{manifest.artefact}",
        manifest=manifest,
        audit=audit,
        operators=operators(),
    )


def test_the_parts_are_sound_and_agree() -> None:
    assert proof().passed
    assert proof(()).passed
    made = artefact("float16")
    assert made.audit.passed
    assert made.audit.census == made.manifest.census
    assert Counter(operator.kind for operator in made.operators) == made.audit.census
    assert made.audit.file_size == made.manifest.file_size
