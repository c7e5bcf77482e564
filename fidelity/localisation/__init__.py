"""Where the first wrong number comes from, and whose fault it is."""
