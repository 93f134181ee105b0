"""Why an operator's request was not carried out. Each kind has its exit code and its HTTP status."""

from relay.outbox.errors import RelayError


class NotFound(RelayError):
    """There is no such delivery, destination or key."""


class NothingMatched(RelayError):
    """The filter is sound, and nothing fits it."""


class Refused(RelayError):
    """It could be done, and should not be: the message says what stands in the way."""
