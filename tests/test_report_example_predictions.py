"""Predictions for the report's examples: what an emulation of the example's GPU would have stored."""

from __future__ import annotations

import numpy as np
from test_report_example_parts import INPUTS, PHOTOGRAPHS, sha

from fidelity.comparison.comparison import Outputs
from fidelity.comparison.expectation import ProfileId
from fidelity.comparison.policy import load_policy
from fidelity.comparison.run_facts import RunKind
from fidelity.devices.job import TensorFile
from fidelity.prediction.expected import Expected, ExpectedTensor, Lacking
from fidelity.prediction.predicted import Predicted
from fidelity.prediction.prediction import Prediction, compare_expected, judge_expected
from fidelity.prediction.site import Site, by_danger, first_overflow, headroom

KIND = RunKind(device="gpu", precision="fp16", weights="float16")
PROFILE = ProfileId(name="mldrift-webgpu-lavapipe", sha256=sha("profile"), measured=True)


def site(operator: int, name: str, magnitude: float, **changes: object) -> Site:
    """One site of a float16 part."""
    fields: dict[str, object] = {
        "operator": operator,
        "name": name,
        "tensor": f"timm.models.eva.EvaBlock_{operator // 30}/timm.layers.norm.LayerNorm_norm1;{operator}",
        "module": f"EvaBlock_{operator // 30}.norm1",
        "part": "result",
        "largest_finite": 65504.0,
        "magnitude": magnitude,
        "headroom": headroom(65504.0, magnitude),
        "input": "noise",
    }
    return Site.model_validate(fields | changes)


SITES = tuple(site(index, "FULLY_CONNECTED", 1.5 + 3.25 * index) for index in range(1, 60))
OVERFLOW = site(24, "SQUARED_DIFFERENCE", float("inf"), non_finite=884, input="astronaut")


def predicted(
    outputs: Outputs,
    reference: dict[str, np.ndarray],
    sites: tuple[Site, ...] = SITES,
    lacking: tuple[Lacking, ...] = (),
) -> Predicted:
    """The prediction of these expected outputs."""
    stored = tuple(
        ExpectedTensor(
            input=name,
            output=key,
            tensor=TensorFile(file=f"outputs/{sha(name)}.raw", dtype="float32", shape=array.shape, sha256=sha(name)),
        )
        for name, keyed in outputs.items()
        for key, array in keyed.items()
    )
    expected = Expected(
        model="model.float16.tflite",
        model_sha256=sha("float16"),
        profile=PROFILE,
        inputs={name: sha(name) for name in INPUTS},
        outputs=stored,
        sites=by_danger(sites),
        first_overflow=first_overflow(sites),
        lacking=lacking,
        unreached=3 * len(lacking),
        versions={"numpy": "2.4.6"},
    )
    comparison = compare_expected({n: dict(k) for n, k in outputs.items()}, reference, "embedding", PHOTOGRAPHS)
    return Predicted(
        Prediction(
            expected=expected,
            weights_dtype="float16",
            reference="timm:vit_pe_core_base_patch16_224",
            comparison=comparison,
            judgement=judge_expected(expected, comparison, KIND, load_policy()),
        ),
        {name: dict(keyed) for name, keyed in outputs.items()},
    )


def test_the_parts_are_sound() -> None:
    assert first_overflow(by_danger((*SITES, OVERFLOW))) == OVERFLOW
    assert by_danger(SITES)[0].operator == 59
