"""Class counts, a sampler and a seed in; which sample stands at which position of which epoch out."""
