"""Images in, checked and ordered by class frequency; tar files and an index out."""
