"""Sub-commands of `nldpe`, one module each."""
