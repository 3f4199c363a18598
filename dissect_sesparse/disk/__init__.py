"""From bytes to what the guest sees. Imports nothing of the other rooms.

Data flows one way through the modules of this room::

    file        one file of evidence: length-checked reads, never a write
    c_sesparse  the on-disk structures
    entry       State, Run, a backmap's word, and the decoding of a directory or table entry
    header      const and volatile header, checked
    lane        what a lane is, without numpy
    engine      the table engine: whole tables as numpy arrays
    source      where metadata is read from: the file, or with sectors laid over it
    metadata    the one accessor of directory, tables, free bitmap and backmap
    copies      bits, words and entries of places and grains in any order
    journal     the records of an extent's redo log, and which are whole
    rebuild     a destroyed header rebuilt from the capacity
    replay      a dirty extent's journal applied in memory
    lost_tables  which table is whose, by the backmap; directory entries given back
    salvage     destroyed tables rebuilt from the backmap
    emptied     whether directory or tables were wiped, by what else the extent has
    repairs     the metadata of an extent with all that was repaired
    extent      what an extent is; ZERO and FLAT
    backmap     whose a place of the grains region is, by the extent's own inverse of its tables
    claims      whose the old bytes of unmapped grains are
    sesparse    the seSparse extent
    residual    the same with unmapped grains shown as their old bytes
    open_extent  what an extent is made of: header, metadata, view
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
