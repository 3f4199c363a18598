"""What dissect.target sees. Imports the other rooms; nothing imports it but the command line.

::

    registration  puts everything below into dissect's registries, once
    context       options of the ``sesparse://`` URI that is being opened
    container     SESparseContainer, a disk
    isolation     one broken disk never costs a target its others
    vm            a VM from its ``.vmx``, or from a folder, tar or zip that holds one
    loader        ``sesparse://`` for options
    records       what they yield
    _plugin       the functions ``sesparse.*``
    autoload/     the files at the wheel's root that call ``register()`` when dissect.target is imported
"""
