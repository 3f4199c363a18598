"""What dissect.target sees. Imports the other rooms; nothing imports it but the command line.

::

    registration  puts everything below into dissect's registries, each piece on its own, once
    hooks         the names of dissect that are wrapped
    versions      what differs between the versions of dissect
    context       what is known of the target that is being opened: options of its URI, its parent
    container     SESparseContainer, a disk
    isolation     one broken disk never costs a target its others
    vm            a VM from its ``.vmx``, or from a folder, tar or zip that holds one
    loader        ``sesparse://`` for options
    machine       the disks of a target as they run, and the states that its snapshots froze
    tree          what is added to the file system of a target, ``/$sesparse$``
    mounting      how that gets there
    child         a snapshot as a target
    _child        lists them
    files         deleted files by name, from all states of a disk
    changed_files  files that differ between two states of a disk
    records       what they yield
    _plugin       the functions ``sesparse.*``
    disk_records  what they tell of one disk, or of a part of it
    autoload/     the files at the wheel's root that call ``register()`` when dissect.target is imported
"""

import contextlib

with contextlib.suppress(Exception):
    # First of all: it is when dissect.target is imported that register() is called, which imports this room. Were that from
    # the middle of one of its modules, that module would be met half made. Whoever needs dissect says why it fails.
    import dissect.target  # noqa: F401
