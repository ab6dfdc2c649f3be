"""Measurement: observables, bins, errors."""
