"""Faults planted in the rewritten torch model: the proof catches each, at the site, and passes the overflow, which
only fp16 shows. On one block of width 32, whose proof takes a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from fidelity.errors import BadInput  # noqa: E402
from fidelity.faults.modules import MODULES  # noqa: E402
from fidelity.faults.plant import FAULTS  # noqa: E402
from fidelity.models.subject import Subject, build_subject  # noqa: E402
from fidelity.rewrites.catalogue import chosen  # noqa: E402
from fidelity.selftest.modules import localised, module_rows, plant, proof_of, seen_by_proof  # noqa: E402

ONE_BLOCK = "timm:vit_pe_core_base_patch16_224?depth=1&embed_dim=32&num_heads=2&img_size=48"
IMAGES = Path(__file__).parents[1] / "golden/images"
REWRITES = chosen("all")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return build_subject(ONE_BLOCK, "seeded", 0, IMAGES, ("astronaut",))


def test_the_faults_are_those_of_the_graph_by_name() -> None:
    assert set(MODULES) == set(FAULTS)


@pytest.mark.parametrize("fault", [name for name in MODULES if name != "overflow"])
def test_the_proof_catches_the_fault_at_its_site(fault: str, subject: Subject) -> None:
    (row,) = module_rows(subject, REWRITES, fault, 0)
    assert row.verdict == "fail"
    assert row.located is not None
    assert (row.located.where, row.located.exact) == (row.site, True)


def test_weights_rounded_twice_are_caught_by_their_bits(subject: Subject) -> None:
    checks = [each.check for each in module_rows(subject, REWRITES, "rounded_twice", 0)[0].seen]
    assert "weights_map" in checks


def test_an_overflow_is_right_in_float32_and_passes_the_proof(subject: Subject) -> None:
    found = plant(subject, REWRITES, "overflow", 0)
    assert "norm" in found.path
    assert proof_of(subject, found.rewrites).passed


def test_the_right_model_has_nothing_against_it_and_no_place(subject: Subject) -> None:
    proof = proof_of(subject, REWRITES)
    assert proof.passed
    assert seen_by_proof(proof) == []
    assert localised(proof, "blocks.0.attn") is None


def test_a_fault_that_no_module_can_have_is_an_error(subject: Subject) -> None:
    with pytest.raises(BadInput, match="the fault wrong_eps has no effect"):
        plant(subject, chosen("split_qkv"), "wrong_eps", 0)
