"""Text of a job file: every phase on a 4x4 lattice, 8 chains, in seconds."""

JOB = """
[lattice]
shape = [4, 4]
[ensemble]
temperature = 0.1
[effective]
model = "attention"
layers = 1
shells = 3
[thermalisation]
moves = 15
[learning]
rounds = 2
configurations = 10
steps = 60
batch_size = 16
[sampling]
chains = 8
samples = 152
bin_size = 4
[output]
directory = "out"
checkpoint_every_s = 0.1
"""
QUIET = JOB.replace("checkpoint_every_s = 0.1", "checkpoint_every_s = 1000")
"""With a checkpoint at the beginning and the end."""
