"""What is asked of a model: classes, numbers, or the next word of a text."""
