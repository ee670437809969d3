"""Files as people have them: paths, texts, annotations, image formats."""
