"""Faults under load: accepted publications arrive once and in order while parts of a cluster die, hang, are cut off or
receive their bytes in pieces, and `/ready` answers meanwhile as docs/reliability.md says.

``python -m tests.faults`` runs every fault on every engine and prints a table; ``--engine`` and
``--fault`` choose some. Each part of a run is a file: ``engines.py`` starts nodes and their store,
``injections.py`` breaks something and repairs it, ``publishers.py`` and ``client.py`` are the load,
``ready_watch.py`` asks every node whether it is ready; ``verdict.py`` compares the accepted
publications with those that each client received, ``readiness.py`` the answers with those that the fault
has to cause. To add a fault or an engine, add a row to the table at the end of its file.
"""
