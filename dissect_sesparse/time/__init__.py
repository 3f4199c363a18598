"""The states of a disk that snapshots froze, the disk as each shows it, and what changed between two."""
