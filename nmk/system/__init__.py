"""The only place that runs commands and reads the machine."""
