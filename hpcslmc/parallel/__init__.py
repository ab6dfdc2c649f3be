"""Ranks: communication, the division of chains, signals and time limits, hardware."""
