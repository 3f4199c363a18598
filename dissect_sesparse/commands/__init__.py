"""The larger commands of ``dissect-sesparse``, one a module; what they share is in ``opening`` and ``text``."""
