"""The larger commands of ``dissect-sesparse``, one a module."""
