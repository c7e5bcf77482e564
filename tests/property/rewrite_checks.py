"""The checks that a rewrite must pass on a case: those of `fidelity prove`, and the structure it is for.

Real rewrites and mutants are judged by this one function, so a mutant that passes shows a check
that is missing.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from rewrite_cases import Case
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fidelity.rewrites.apply import apply_rewrites
from fidelity.rewrites.contract import Exactness, Rewrite
from fidelity.rewrites.side_by_side import SiteRecorder, Versions
from fidelity.rewrites.weights_map import check_weights, stored_tensors

PATH = "blocks.0"
_PRODUCTS = ("bmm", "matmul", "baddbmm", "scaled_dot_product")


def violations(case: Case, rewrites: Sequence[Rewrite]) -> list[str]:
    """Everything that is wrong with these rewrites on this case; empty when they keep their contract."""
    double = copy.deepcopy(case.model).double()
    before = {name: tensor.clone() for name, tensor in stored_tensors(case.model).items()}
    try:
        new, new64 = apply_rewrites(case.model, rewrites), apply_rewrites(double, rewrites)
        if not all(new.taken(rewrite.contract.name) for rewrite in rewrites):
            return [f"not taken: {[d.refused for d in new.decisions]}"]
        found = _numbers(case, double, new64.model, new.model)
        found += _structure(case, new64.model, [rewrite.contract.name for rewrite in rewrites])
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
        return [f"{type(error).__name__}: {error}"]
    weights = check_weights(case.model, new.model, new.origins)
    if not weights.exact:
        found.append(f"weights: lost {weights.lost}, unexplained {weights.unexplained}, or bits differ")
    after = stored_tensors(case.model)
    found += [f"the original's {name} was changed" for name in before if not torch.equal(before[name], after[name])]
    return found


def _numbers(case: Case, double: torch.nn.Module, new64: torch.nn.Module, new32: torch.nn.Module) -> list[str]:
    versions = Versions(
        {torch.float64: double.get_submodule(PATH), torch.float32: case.model.get_submodule(PATH)},
        {torch.float64: new64.get_submodule(PATH), torch.float32: new32.get_submodule(PATH)},
    )
    recorder = SiteRecorder(PATH, ("case",), extremes=True)
    with torch.no_grad():
        output = versions.original[torch.float64](case.x, **case.kwargs)
        recorder.see(versions, "case", (case.x,), case.kwargs, output)
    proof = recorder.proof()
    return [] if proof.exactness is not Exactness.NOT_EQUIVALENT else [f"numbers: {proof.counter_example}"]


def _structure(case: Case, model: torch.nn.Module, names: list[str]) -> list[str]:
    """What the delegate refuses must be gone: rank 5, gathers and strides, constant matrix products."""
    constants = {tensor.untyped_storage().data_ptr() for tensor in stored_tensors(model).values()}
    seen = Operations(constants)
    with torch.no_grad(), seen:
        model.get_submodule(PATH)(case.x, **case.kwargs)
    found = []
    if seen.rank > 4 and ("pool_one_query" in names or ({"split_qkv"} <= set(names) and "rope" not in case.kwargs)):
        found.append(f"a tensor of rank {seen.rank}")
    if {"split_qkv", "rotate_half"} <= set(names) and (seen.strided or seen.rank > 4):
        found.append(f"strided slices: {seen.strided}, rank {seen.rank}")
    if names == ["split_qkv"] and "rope" not in case.kwargs and seen.strided:
        found.append(f"{seen.strided} gathers or strided slices")
    if "safe_layernorm_2d" in names and seen.moved:
        found.append(f"{seen.moved} transpositions")
    if "pool_one_query" in names and seen.products:
        found.append(f"matrix products of activations: {seen.products}")
    return found


class Operations(TorchDispatchMode):
    """Notes the highest rank, slices of a step other than 1, transpositions and batched products, while active."""

    def __init__(self, constants: set[int]) -> None:
        super().__init__()
        self.constants, self.rank, self.strided, self.products, self.moved = constants, 0, 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name == "slice" and len(args) > 4 and args[4] != 1:
            self.strided += 1
        self.strided += name in ("index", "gather", "index_select")
        self.moved += name in ("permute", "transpose")
        self.products += any(product in name for product in _PRODUCTS)
        result = func(*args, **(kwargs or {}))
        self.rank = max(self.rank, *(leaf.ndim for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)), 0)
        return result
