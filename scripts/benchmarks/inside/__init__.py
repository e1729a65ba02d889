"""Programs that run on a host of the lab, with the packages that the file `nmk` carries."""
