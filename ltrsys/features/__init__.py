"""A trained backbone in, the features of every image out, computed once; and training on them."""
