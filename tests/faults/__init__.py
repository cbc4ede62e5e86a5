"""Faults under load: what is accepted arrives, once and in order, whatever dies, hangs or is cut off.

``python -m tests.faults`` runs every fault on every engine and prints a table; ``--engine`` and
``--fault`` choose some. A run is one file each: ``engines.py`` starts nodes and what lies between them,
``injections.py`` breaks something and mends it, ``publishers.py`` and ``client.py`` are the load, and
``verdict.py`` compares what was accepted with what each client received. To add a fault or an engine,
add a row to the table at the end of its file.
"""
