"""Configuration: the table of options, and how command line, environment and file are combined.

Read ``options`` (the table), ``load`` (sources and precedence), ``effective`` (defaults that depend on other
options), then ``render`` (help, ``--print-config``, the table of the docs).
"""
