"""The first stage: a whole experiment begun or resumed, trained, measured and saved (paper, section 3)."""
