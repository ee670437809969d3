"""Networks that other libraries have, `model.backbone: LIBRARY/NAME`: a file a library."""
