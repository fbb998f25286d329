"""One judge for all: the same questions to every model, each answered through its own objective's scorer."""
