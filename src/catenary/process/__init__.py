"""The operating-system process: ports, signals, workers, logs, and its start and end.

Knows the system, uvicorn and the connections of ``edge/``. Does not know what is served: ``server/`` builds that and passes it in.
"""
