"""Search for the best multi-label poster-genre classifier that this machine can train."""

__version__ = "0.1.0"
