"""What can go wrong with nnU-Net, each in one sentence that names file, value and rule."""


class NnunetError(ValueError):
    """What was given cannot be used; the message is one sentence."""


class MissingLibraryError(ImportError):
    """nnU-Net is not installed; the message names the extra that has it."""


class MemoryLimitError(MemoryError):
    """A training or a case needs more memory than there is; the message has the bytes of both."""


class WorkerLostError(RuntimeError):
    """A process that prepared the batches of a training died; the message says how, and what memory there was."""
