"""Network models, one readable file each, in numpy."""
