"""The walk up a chain, its links, and the disk that they are together."""
