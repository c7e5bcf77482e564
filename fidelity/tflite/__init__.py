"""The artefact: convert a torch module, read the graph, audit it, keep its manifest."""
