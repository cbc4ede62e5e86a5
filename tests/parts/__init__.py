"""Real parts that tests start: servers, applications, Redis, browsers. Each on a free port of its own."""
