"""Moves an outbox, and whatever else is kept beside it, from one kind of database to another: all of it, or it is said.

What there is to move is found in the databases' own catalogues, so that tables of other rooms come along. The target
knows how far it has come, and can be used for nothing else until everything was copied and compared.
"""

from relay.outbox.moving.move import Moved, move
from relay.outbox.moving.progress import MoveProgress

__all__ = ["MoveProgress", "Moved", "move"]
