"""Files, folders replaced whole, memory, processes: what knows nothing of pictures or models."""
