"""The committed goldens still hold, and a stale or altered one is told apart and named."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from torch.nn import functional

from fidelity.errors import BadInput
from fidelity.golden import AGREEMENT, MANIFEST, embeddings, read_golden, record_golden, verify_golden
from fidelity.models.subject import build_subject

ROOT = Path(__file__).parents[2] / "golden"
IMAGES = ROOT / "images"
SMALL = "timm:vit_pe_core_base_patch16_224?depth=1&embed_dim=32&num_heads=2&img_size=32"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "two-block", tmp_path / "two-block")
    return tmp_path


@pytest.mark.parametrize("name", ["two-block", "pe-core-b16"])
def test_committed_goldens_verify(name: str) -> None:
    check = verify_golden(ROOT, name, IMAGES)
    assert check.worst <= AGREEMENT
    assert check.arrays == {"two-block": 13 * 3, "pe-core-b16": 13}[name]


def test_embeddings_are_normalised_and_differ_between_photographs() -> None:
    values = embeddings(read_golden(ROOT, "pe-core-b16")[1])
    stacked = np.concatenate(list(values.values()))
    # a norm computed in float64 from 1024 squares: sqrt(1024) * 2^-53 = 3.6e-15
    np.testing.assert_allclose(np.linalg.norm(stacked, axis=1), 1, atol=1e-14)
    photographs = stacked[:8] @ stacked[:8].T
    assert photographs[~np.eye(8, dtype=bool)].max() < 0.99


def test_an_altered_array_names_both_hashes(copied: Path) -> None:
    victim = sorted((copied / "two-block").glob("*.npy"))[0]
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    with pytest.raises(BadInput, match=rf"altered: sha256 of {victim.name} is [0-9a-f]{{16}}.*manifest says"):
        read_golden(copied, "two-block")


@pytest.mark.parametrize("change", ["missing", "unlisted"])
def test_a_missing_or_unlisted_file_is_named(copied: Path, change: str) -> None:
    victim = sorted((copied / "two-block").glob("*.npy"))[0]
    if change == "missing":
        victim.unlink()
    else:
        victim = victim.with_name("extra.npy")
        victim.write_bytes(b"")
    with pytest.raises(BadInput, match=victim.name):
        read_golden(copied, "two-block")


def test_a_pickled_array_is_refused(copied: Path) -> None:
    manifest = copied / "two-block" / MANIFEST
    told = json.loads(manifest.read_text())
    victim = copied / "two-block" / told["arrays"][0]["file"]
    np.save(victim, np.array([{"evil": 1}], dtype=object), allow_pickle=True)
    told["arrays"][0]["sha256"] = hashlib.sha256(victim.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(told))
    with pytest.raises((BadInput, ValueError), match=r"pickle|object"):
        read_golden(copied, "two-block")


def test_a_stale_golden_says_which_hash_differs(tmp_path: Path) -> None:
    subject = build_subject(SMALL, "seeded", 0, IMAGES, ("astronaut",))
    manifest = record_golden(tmp_path, "small", subject, traced=True)
    assert verify_golden(tmp_path, "small", IMAGES).worst == 0
    other = manifest.model_copy(update={"subject": manifest.subject.model_copy(update={"seed": 1})})
    other.write(tmp_path / "small" / MANIFEST)
    with pytest.raises(BadInput, match="stale: weights_sha256 is"):
        verify_golden(tmp_path, "small", IMAGES)


def test_a_changed_function_with_the_same_weights_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_golden(tmp_path, "small", build_subject(SMALL, "seeded", 0, IMAGES, ("astronaut",)), traced=False)
    plain = functional.layer_norm
    monkeypatch.setattr(functional, "layer_norm", lambda *args: plain(*args) * (1 + 1e-9))
    with pytest.raises(BadInput, match="give another value"):
        verify_golden(tmp_path, "small", IMAGES)


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none of that name"):
        read_golden(tmp_path, "../golden")
