"""What is converted: sources, their weights, the photographs, and the input contract."""
