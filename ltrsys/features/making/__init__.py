"""Making a bank: features from a backbone and images, or those that somebody has already."""
