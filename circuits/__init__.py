"""Drives ngspice: netlists in, characterised arrays with units out."""
