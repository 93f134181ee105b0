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


REMEDIES = {
    "busy": "find who keeps the database locked",
    "full": "free its disk",
    "io": "look at its disk and file system",
    "corrupt": "stop what uses it, keep the file, and bring back a backup",
    "replaced": "start this program again: it opens the file that is there then",
    "unavailable": "start the database, or mend the way to it",
    "read_only": "name the primary in outbox.url, or see whether its disk is full, and reset "
    "default_transaction_read_only",
    "restarting": "wait for the database, which restarts",
    "login": "correct user and password in outbox.url, or let the role log in",
    "missing": "make the database, or name another in outbox.url",
    "connections": "raise max_connections, or the role's limit, or find who keeps sessions open",
    "forbidden": "grant the role its rights: `relay doctor` says which",
    "other": "look at the log of the database",
}
"""Why a database cannot be used, and what mends it. The kinds stay the same between versions."""

AWAY = frozenset({"unavailable", "read_only", "restarting", "login", "missing", "connections"})
"""Those after which there is no session any more."""


class StoreUnavailable(RelayError):
    """The outbox cannot be used right now. `kind` is one of `REMEDIES`."""

    def __init__(self, kind: str, words: str = "") -> None:
        super().__init__(words or kind)
        self.kind = kind

    @property
    def remedy(self) -> str:
        return REMEDIES[self.kind]


class StreamKilled(RelayError):
    """The stream of this delivery was killed: by a dead delivery, or by the end of its socket."""


class StreamEnded(RelayError):
    """The stream of this delivery was ended: by its producer, or because its producer was taken for dead."""
