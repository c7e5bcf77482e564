"""The survey: many models, small, through every stage of the gate; a row for each whatever happens to it."""
