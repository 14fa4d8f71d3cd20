"""The left column: what is looked at, and with whom."""
