"""Classifiers that adjust the joint one: its weights or its logits."""
