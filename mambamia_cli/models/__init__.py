"""Names -> weights on disk: what is embedded, where it lies, how it gets there. Imports no torch."""

from mambamia_cli.models.cache import cache_dir
from mambamia_cli.models.registry import ENTRIES, Entry, Status, names, pull, resolve, status, verify

__all__ = ["ENTRIES", "Entry", "Status", "cache_dir", "names", "pull", "resolve", "status", "verify"]
