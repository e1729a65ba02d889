"""What `nmk doctor` looks at, one concern a file. Each check gives findings and changes nothing."""
