"""The admin API: the command line's operations over HTTP, for programs. A table of endpoints is both the routes and the
OpenAPI document, so that they cannot differ."""
