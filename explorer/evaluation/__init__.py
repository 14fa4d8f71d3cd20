"""Many pictures: features, probes, projections, sweeps."""
