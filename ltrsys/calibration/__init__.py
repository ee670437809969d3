"""How sure a classifier is, and how far that can be trusted: probabilities, thresholds, prediction sets, novelty."""
