"""What a browser draws: payloads for the views of `explorer.web`, and whole pages."""
