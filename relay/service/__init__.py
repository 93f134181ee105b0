"""What every daemon of ours needs: its configuration file, log, health page, service manager and spans."""
