"""The console: pages for people, rendered here and complete without JavaScript. Every state of a page is in its URL."""
