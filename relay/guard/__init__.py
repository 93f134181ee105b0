"""What a URL and an address may be: nothing leaves for a forbidden one. Pure, but for the resolver."""
