"""The gate: may this artefact be released? Every stage in order, one verdict, one folder of evidence."""
