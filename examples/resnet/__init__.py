"""A convolutional network of ResNet18's size, to measure what INT8 gains on convolutions."""
