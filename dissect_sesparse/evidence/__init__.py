"""What else the files tell, beside the guest's bytes. Reads the disk room; knows nothing of dissect.target.

::

    snapshots  the snapshot list of the VM (``.vmsd``)
    vmx        the configuration of the VM (``.vmx``)
    stand_in   which older state is left where the newest descriptor is gone
    states     the states of a VM that its snapshots froze
    links      one summary for each link of a chain
    map        the runs of the whole disk, and who answers for each
    views      the disk as of each link, and what the guest wrote in the time of one
    content    digests, entropy and file type of some bytes
    parts      parts of a disk that each can be gone through alone
    unmapped   what the guest trimmed, and what is left of it
    strip      the runs of a whole disk as few cells
    unreferenced  grains in a file that no entry names
    journals   the records of the journals, and what became of a dirty one
    ranges     a set of ranges
    deleted    a deleted file, and what can be had of it
    mft_record  what one record of an NTFS volume's MFT tells
    mft        which deleted files the MFTs of all states of an NTFS volume name
    mft_paths  their paths
    ntfs_layout  where the bytes of their data streams are
    ntfs_bitmap  which clusters are in use
    ntfs_content  their bytes, as a state has them, or from the time in which they were deleted
    ntfs_files  what is told of them, and what proves it
    audit      an extent's tables against one another, against its free bitmap and against its backmap
    headers    its headers against one another and against the file's size
    spare      the bytes of its metadata that nothing uses, and text that leaked into them
    surroundings  what lies beside a disk that no chain reaches, and what the snapshot list says otherwise
    unread     what lies beside a disk, would count, and could not be read
    new_descriptor  the text of a descriptor for an extent that has lost its own
    changes    what differs between two states of a disk
    findings   what is odd but readable, and what cannot be read
    inputs     the files that a recovery reads, with size, time and digest
    sparse_file   an output file: sparse, verified and gone on with, named when it is whole
    json_lines    the same, with a JSON object a line
    ddrescue   ranges, and the map file that says which were recovered
    safe_name  file names from names of the evidence
    recover_state  what was begun in a folder
    recover_disk   images and lines of one disk
    recover_files  deleted files of one disk under their paths, and their lines
    recover    what guests trimmed, into a folder
    report     what one page can tell of some disks
"""
