"""Labels and predictions in, accuracies out: by shot, with intervals and paired tests."""
