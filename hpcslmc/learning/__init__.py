"""Learning the effective model from exact evaluations."""
