"""The engine put together: recordings, live speech, the HTTP server, and the process around them."""
