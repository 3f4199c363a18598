"""For ``--plugin-path`` and ``DISSECT_PLUGINS``, where ``.pth`` files are not processed. May be executed twice."""

from dissect_sesparse.target.registration import register

register()
