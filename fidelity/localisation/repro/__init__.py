"""A repro pack: the smallest model that shows a fault, with all that is needed to see it again elsewhere."""
