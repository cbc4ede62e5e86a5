"""Wire formats: pure functions and state machines over bytes, without sockets and clocks."""
