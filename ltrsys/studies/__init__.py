"""Tables of several runs: what is to be run, what is there, and the table that it makes."""
