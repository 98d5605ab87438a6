"""The errors of the whole project: one base class, one kind per cause."""


class NldpeError(Exception):
    """Base class: a message for the user, shown without a traceback by the command line."""


class ParameterError(NldpeError):
    """A device, technology or command-line parameter is unknown, missing or out of range."""


class SimulationError(NldpeError):
    """ngspice is missing, rejected a netlist, or returned no usable data."""


class FormatError(NldpeError):
    """A file is truncated, of another format version, or lacks a required part."""


class TableRangeError(NldpeError):
    """A look-up left the characterised range."""


class DataError(NldpeError):
    """A data set or a package could not be fetched, or its checksum is wrong."""


class CheckpointError(NldpeError):
    """A checkpoint is missing tensors, or their names or shapes do not fit the model."""
