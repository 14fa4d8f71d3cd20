"""Rivals at equal supervision: fine-tuning and restoration."""
