"""Is this data, are these settings what can be trained on? Asked before it is."""
