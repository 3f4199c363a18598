"""From bytes to what the guest sees. Imports nothing of the other rooms.

Data flows one way through the modules of this room::

    file        one file of evidence: length-checked reads, never a write
    c_sesparse  the on-disk structures
    entry       State, Run, and the decoding of a directory or table entry
    header      const and volatile header, checked
    lanes       a whole table decoded at once (the trick)
    overlay     the tables of several links laid over one another (the same trick)
    journal     the records of an extent's redo log, and which are whole
    metadata    sectors laid over a file's own, and single entries held against one another
    rebuild     a destroyed header rebuilt from the capacity
    replay      a dirty extent's journal applied in memory
    salvage     destroyed directory and tables rebuilt from the backmap
    census      how many entries of a table are in each state
    extent      what an extent is; ZERO and FLAT
    backmap     whose a place of the grains region is, by the extent's own inverse of its tables
    claims      whose the old bytes of unmapped grains are
    residual    unmapped grains shown with their old bytes
    emptied     whether directory or tables were wiped, by what else the extent has
    sesparse    the seSparse extent: directory, tables, runs
    descriptor  the text of a ``.vmdk``
    c_vmdk      the on-disk structures of the older sparse extents
    tables      what those share: a directory and tables of 32-bit sector numbers
    hosted      the hosted sparse extent, plain or compressed
    cowd        the ESX sparse extent
    seen        what was listed and read already in one opening
    folder      which files evidence may name, and where they are
    parent      which descriptor is the parent, and why
    lost        which descriptors may be the parent's of an extent whose own is lost
    walk        the one way up a chain, for the reader, detection, states and children
    link        one element of a chain: a descriptor with its extents
    window      a piece of the disk resolved over the whole chain
    reader      reads over the whole chain
    stream      the disk as a file object
    chain       the links, newest first: runs of the whole disk
    detect      whether a file is one of ours

A *run* (:class:`~dissect_sesparse.disk.entry.Run`) is the one currency of map, read and report.
"""
