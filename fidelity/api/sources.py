"""`prove` and `convert`: what is done with a PyTorch model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fidelity.api.given import IMAGES, Inputs, StrPath, subject_of_model
from fidelity.cache import Cache
from fidelity.errors import BadInput
from fidelity.progress import Reporter, quiet
from fidelity.tflite.manifest import Manifest, WeightsDtype, read_manifest

if TYPE_CHECKING:
    from torch import nn

    from fidelity.rewrites.proof import Proof


def prove(
    model: str | nn.Module,
    *,
    weights: str = "seeded",
    rewrites: str = "all",
    inputs: Inputs = None,
    images: StrPath = IMAGES,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Proof:
    """Are the rewrites weights-exact, on this very model?

    Every weight is compared bit for bit, and every rewritten module, every block and the whole model is held against
    the unrewritten one in float64 and float32, within limits derived from rounding.

    Args:
        model: `timm:NAME[?option=value&...]`, or a float32 module in eval mode that takes [1, 3, H, W].
        weights: of a source: `seeded`, `massive[:PEAK[@BLOCK]]`, `pretrained` or `file:PATH`.
        rewrites: `all`, `none`, or names with commas between.
        inputs: float32 [1, 3, H, W] by name, scaled as the model wants; or names of `images`; None is all of these.
        images: folder of photographs with a provenance.json.
        seed: of seeded weights and of the stress images.

    Returns:
        `Proof`: `.passed`, `.failures` in sentences, `.weights_map`, `.decisions`, and `.sites`, whose differences are
        relative L2 of a row beside what rounding explains.

    Raises:
        BadInput: a name, file or array that is wrong. EnvironmentMissing: torch or timm is not installed.

    Source of the limits: `fidelity/rewrites/rounding.py` (Higham and Mary 2019; Parker 1997).
    """
    from fidelity.rewrites.catalogue import chosen, chosen_for  # noqa: PLC0415 - torch is an extra
    from fidelity.rewrites.prove import Subject as Proved  # noqa: PLC0415
    from fidelity.rewrites.prove import prove as run_proof  # noqa: PLC0415
    from fidelity.rewrites.prove import steps  # noqa: PLC0415

    chosen(rewrites)  # a misspelt name is told before a model is built
    subject = subject_of_model(model, weights, inputs, images, seed)
    selected = chosen_for(rewrites, subject.model)
    what = Proved(subject.model, subject.record.source, subject.record.weights)
    with (reporter or quiet()).stage("prove", steps(subject.model)) as step:
        return run_proof(what, selected, subject.inputs, step).proof


def convert(
    model: str | nn.Module,
    output: StrPath,
    *,
    weights: str = "seeded",
    rewrites: str = "all",
    weights_dtype: WeightsDtype = "float16",
    inputs: Inputs = None,
    images: StrPath = IMAGES,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Manifest:
    """Rewrite the model, append the L2 normalisation and convert it to a .tflite, with its manifest beside it.

    Args:
        model, weights, rewrites, images, seed: as in `prove`.
        output: the file, whose name ends in .tflite.
        weights_dtype: `float16` (what ships) or `float32`.
        inputs: float32 [1, 3, H, W] by name for a module that does not tell its own size; the values do not matter.

    Returns:
        `Manifest`: where it comes from, `.contract` (names, shapes and dtypes), `.census`, `.sha256`.

    Raises:
        BadInput: a name that is wrong, or a model that cannot be traced or converted.
        EnvironmentMissing: the extra `fidelity[convert]` is not installed.
    """
    from fidelity.gating.artefacts import copy_artefact, make_artefact  # noqa: PLC0415 - torch is an extra
    from fidelity.rewrites.catalogue import chosen, chosen_for  # noqa: PLC0415

    path = Path(output)
    if path.suffix != ".tflite":
        raise BadInput(f"output {path}: expected a name that ends in .tflite")
    chosen(rewrites)  # a misspelt name is told before a model is built
    subject = subject_of_model(model, weights, inputs, images, seed)
    selected = chosen_for(rewrites, subject.model)
    with (reporter or quiet()).stage("convert", 4) as step, cache_for(model) as cache:
        copy_artefact(make_artefact(subject, selected, weights_dtype, cache, step), path)
    return read_manifest(path)


@contextmanager
def cache_for(model: str | nn.Module) -> Iterator[Cache]:
    """The user's cache for a source that has a name; for a module, whose code no key holds, one that is thrown away."""
    if isinstance(model, str):
        yield Cache()
        return
    with tempfile.TemporaryDirectory(prefix="fidelity-") as folder:
        yield Cache(Path(folder))
