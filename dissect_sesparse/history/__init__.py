"""Each file over all states of a disk: which contents it had, and since when, until when."""
