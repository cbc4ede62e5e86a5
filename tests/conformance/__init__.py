"""The behaviour of any cable server, over real sockets: ours always, and optionally another one.

With ``ANYCABLE_GO=path`` every test runs against that anycable-go too, so that a wrong expectation
shows. Where it is known to be faulty, the test says so with the mark ``reference_fault``.
The scenarios are those of AnyT (anycable/anyt), and what clients may do wrong.
"""
