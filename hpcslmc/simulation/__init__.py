"""A run: phases, the chains of each temperature, tuning, convergence."""
