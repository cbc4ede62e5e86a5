"""Configuration: every option once, and how command line, environment and file become one value.

Read ``options`` (the table), ``load`` (sources and precedence), ``effective`` (what options imply
about each other), then ``render`` (help, ``--print-config``, the table of the docs).
"""
