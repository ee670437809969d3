"""Which parameters of a network are trained, in which layer each stands, and adapters in their place."""
