"""What XFS itself keeps of files, beside what dissect reads: its log, freed inodes."""
