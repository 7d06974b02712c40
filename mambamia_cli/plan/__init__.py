"""What a run will need before anything is loaded: tokens, bytes by stage, what fits. Imports no torch."""
