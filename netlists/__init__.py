"""SPICE text, transistor cards, device and technology files; read with importlib.resources."""
