"""Running the command line in a test; see fixtures/command.py."""

from fixtures.command import mambamia, spawn

__all__ = ["mambamia", "spawn"]
