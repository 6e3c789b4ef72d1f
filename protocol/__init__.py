"""Bytes to requests and back: the Open Inference Protocol."""
