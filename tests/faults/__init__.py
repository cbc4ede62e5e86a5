"""Faults under load: what is accepted arrives, once and in order, whatever dies, hangs, is cut off or comes
in pieces; and `/ready` says meanwhile what docs/reliability.md says.

``python -m tests.faults`` runs every fault on every engine and prints a table; ``--engine`` and
``--fault`` choose some. A run is one file each: ``engines.py`` starts nodes and what lies between them,
``injections.py`` breaks something and mends it, ``publishers.py`` and ``client.py`` are the load,
``ready_watch.py`` asks every node whether it is ready; ``verdict.py`` compares what was accepted with what
each client received, ``readiness.py`` the answers with those that the fault has to cause. To add a fault or an engine,
add a row to the table at the end of its file.
"""
