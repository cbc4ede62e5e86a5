"""Inputs by the million for every pure core: ``make fuzz``.

``cores`` says what must hold for any bytes, ``mutation`` makes them out of valid ones.
"""
