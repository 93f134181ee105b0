"""The errors of the relay. A class's docstring says what went wrong; the message says where and what to do."""


class RelayError(Exception):
    """Something that the person who started the relay can mend."""


class ConfigError(RelayError):
    """The configuration cannot be used: the message names the key and the remedy."""


class SchemaError(RelayError):
    """The database does not fit this program: newer, or changed by hand."""


class UnfinishedMove(SchemaError):
    """The database is being filled from another one, and that was not finished."""


class MoveRefused(RelayError):
    """A database cannot be moved, or not there: the message says what stands in the way."""


class DuplicateDelivery(RelayError):
    """A delivery with this id is in the outbox already."""


class InvalidDelivery(RelayError):
    """A delivery that no relay could ever send: the message names the field."""


class StoreUnavailable(RelayError):
    """The outbox cannot be used right now. `kind` is busy (locked for too long), full, io, corrupt, unavailable or
    other."""

    def __init__(self, kind: str, words: str = "") -> None:
        super().__init__(words or kind)
        self.kind = kind


class StreamKilled(RelayError):
    """The stream of this delivery was killed: by a dead delivery, or by the end of its socket."""


class StreamEnded(RelayError):
    """The stream of this delivery was ended: by its producer, or because its producer was taken for dead."""
