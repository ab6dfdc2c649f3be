"""Lattices and the Hamiltonian of electrons coupled to classical spins."""
