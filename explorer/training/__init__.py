"""Distillation: losses, crops, targets, the configuration, the run."""
