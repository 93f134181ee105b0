"""The outbox as the daemon uses it: claim, lease, settle, forget, count. Any number of relays share it."""
