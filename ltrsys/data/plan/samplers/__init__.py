"""Class counts and an epoch in, the sampling weight of each class out: a file a way of sampling."""
