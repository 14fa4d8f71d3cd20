"""Backbones, what is read out of them (`Trace`), where their weights come from, and pairs of teacher and student."""
