"""From what a report tells (``evidence.report``) to one HTML page. Knows nothing of dissect.target.

::

    shown      text of the evidence made harmless for the eye, numbers and times for people
    render     the page: the template, with its style, its script and the data of the maps inside

``page.html`` is the template, ``page.css`` and ``page.js`` are put into it as they are. The page asks for nothing outside
itself: its Content-Security-Policy allows this one style and this one script, by their hashes, and nothing else.
"""
