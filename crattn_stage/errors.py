"""The errors a user is told about in one line."""


class CrattnError(Exception):
    """Something a user can act on; the message is one line that names the cause."""


class FrameError(CrattnError):
    """A frame that cannot be read, masked or written."""


class ModelError(CrattnError):
    """A model that is unknown, damaged or not what its card says."""


class EngineError(CrattnError, ValueError):
    """An engine that is unknown or cannot run here."""


class CameraError(CrattnError):
    """A camera profile that cannot be read or does not keep to the format."""
