"""The command `vit-explorer`: `explorer.cli.main`, and one module for each of its commands."""
