"""A rewrite with a fault at one site, so that `prove` judges it as it judges any rewrite."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fidelity.faults.modules import MODULES
from fidelity.rewrites.contract import Contract, Rewrite, Rewritten, Site


@dataclass(frozen=True)
class PlantedRewrite:
    """A rewrite that is right everywhere but at one site. Raises ValueError where that cannot have the fault."""

    honest: Rewrite
    path: str
    fault: str
    drawn: int

    @property
    def contract(self) -> Contract:
        """The promise of the honest one, which this one breaks."""
        return self.honest.contract

    def concerns(self, module: nn.Module) -> bool:
        """As the honest one."""
        return self.honest.concerns(module)

    def refuses(self, site: Site) -> str | None:
        """As the honest one."""
        return self.honest.refuses(site)

    def rewrite(self, site: Site) -> Rewritten:
        """The honest module, tampered with at the site; the origins tell of the honest one."""
        rewritten = self.honest.rewrite(site)
        if site.path == self.path and not MODULES[self.fault](rewritten.module, self.drawn):
            raise ValueError(f"{self.path}: a {type(rewritten.module).__name__} cannot have {self.fault}")
        return rewritten
