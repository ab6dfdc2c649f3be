"""What is simulated: lattices and the Hamiltonian of electrons coupled to classical spins."""
