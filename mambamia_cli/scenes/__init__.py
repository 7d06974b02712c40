"""Delta curve -> scene markers -> table and plot. Imports no torch."""
