"""The verbs as Python functions, which `import fidelity` gives: the same stages and records, and nothing printed."""
