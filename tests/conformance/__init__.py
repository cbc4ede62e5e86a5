"""What any cable server must do, over real sockets: ours always, and another one beside it.

With ``ANYCABLE_GO=path`` every test runs against that anycable-go too, so that a wrong expectation
shows. Where it is known to be faulty, the test says so with the mark ``reference_fault``.
The scenarios are those of AnyT (anycable/anyt), and what clients may do wrong.
"""
