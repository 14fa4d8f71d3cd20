"""From traces to maps and numbers."""
