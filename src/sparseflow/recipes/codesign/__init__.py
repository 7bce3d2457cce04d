"""Co-design of a network and the chiplets that run it."""
