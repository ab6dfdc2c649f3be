"""Checkpoints: one HDF5 file, written by all ranks together, checked in full, published by rename.

The file holds two trees of arrays. Under ``/chains`` the first axis of every dataset is the global
chain, and each rank writes and reads its own block of it; under ``/shared`` are arrays that all
ranks hold alike, and one JSON text with every plain value (counters, phases, the resolved job,
versions).

Before the HDF5 part lies an index (``index``): a line of plain text (format, length, CRC-32 of what
follows), then JSON with the type, shape, place and CRC-32 of every array and of what lies between
them. The checksum of a chain array is that of the checksums of its chains, so any number of ranks
can work it out. The program reads by the index alone: no byte is believed before its checksum is
right, nothing is unpickled, and no HDF5 feature (links, filters, external files) of a foreign file
comes into play.

A file that is not complete never has the checkpoint's name, and the checkpoint before stays beside
it under the name that ``previous`` gives.
"""

from hpcslmc.storage.checkpoint.index import FIRST_LINE, FORMAT, Array, Damaged
from hpcslmc.storage.checkpoint.reader import load, load_newest
from hpcslmc.storage.checkpoint.writer import save
from hpcslmc.storage.names import previous

__all__ = ["FIRST_LINE", "FORMAT", "Array", "Damaged", "load", "load_newest", "previous", "save"]
