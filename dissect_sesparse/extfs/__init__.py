"""What is on a volume of ext2, ext3 or ext4: inodes, folders, tables and the journal, in one state and over several."""
