"""What NTFS says of its files: its MFT, and what dissect.ntfs does not go through: change journal, old entries of folders."""
