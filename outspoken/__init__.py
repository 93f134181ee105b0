"""Both programs at once, for whoever begins: `outspoken quickstart` prepares a folder, `outspoken up` runs all in it.

The one package that knows relay and engine; neither knows it.
"""
